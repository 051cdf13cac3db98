// Command module is what containers of the tests run.
package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		fmt.Println("nothing to do")
		return
	}
	switch args[0] {
	case "say":
		fmt.Println(strings.Join(args[1:], " "), os.Getenv("COLOUR"))
		fmt.Fprintln(os.Stderr, "to stderr")
	case "exit":
		n, _ := strconv.Atoi(args[1])
		os.Exit(n)
	case "read":
		raw, err := os.ReadFile(args[1])
		fmt.Println(string(raw), err)
	case "write":
		fmt.Println("written:", os.WriteFile(args[1], []byte("by the module"), 0o644))
	case "link":
		fmt.Println("linked:", os.Symlink(args[1], args[2]))
		raw, err := os.ReadFile(args[2])
		fmt.Println(string(raw), err)
	case "list":
		entries, err := os.ReadDir(args[1])
		for _, e := range entries {
			fmt.Println(e.Name())
		}
		fmt.Println("listed:", err)
	case "hog":
		var all [][]byte
		for {
			all = append(all, make([]byte, 1<<20))
			if len(all)%8 == 0 {
				fmt.Println("has", len(all))
			}
		}
	case "spin":
		fmt.Println("spinning")
		for i := 0; ; i++ {
			if i == -1 {
				fmt.Println()
			}
		}
	case "cat":
		_, _ = io.Copy(os.Stdout, os.Stdin)
	}
}
