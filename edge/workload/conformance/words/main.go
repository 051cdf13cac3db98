// Command words is the program in images that runtimes are tested with: it obeys a few words, one after the other, as
// conformance.Subject says. Built for wasip1, it is a module.
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	for words := os.Args[1:]; len(words) > 0; words = words[1:] {
		next := ""
		if len(words) > 1 {
			next = words[1]
		}
		switch words[0] {
		case "echo", "complain":
			to := os.Stdout
			if words[0] == "complain" {
				to = os.Stderr
			}
			fmt.Fprintln(to, next)
			words = words[1:]
		case "exit":
			code, err := strconv.Atoi(next)
			if err != nil {
				code = 125
			}
			os.Exit(code)
		case "stubborn":
			signal.Ignore(syscall.SIGTERM)
		case "env":
			fmt.Println(os.Getenv(next))
			words = words[1:]
		case "cat":
			_, err := io.Copy(os.Stdout, os.Stdin)
			report("cat", err)
		case "read":
			raw, err := os.ReadFile(next)
			report("read", err)
			fmt.Println(string(raw))
			words = words[1:]
		case "write":
			report("write", os.WriteFile(next, []byte("written"), 0o644))
			words = words[1:]
		case "list":
			entries, err := os.ReadDir(next)
			report("list", err)
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
			}
			fmt.Println(strings.Join(names, " "))
			words = words[1:]
		case "who":
			who()
		case "size":
			size()
		case "hog":
			hog()
		case "spin":
			for i := 0; ; i++ {
				if i == -1 {
					fmt.Println()
				}
			}
		}
	}
	for { // a program without timers would be told of a deadlock
		time.Sleep(time.Hour)
	}
}

func report(what string, err error) {
	if err != nil {
		fmt.Println(what, "failed:", err)
	}
}

// hog takes memory for ever, and touches it.
func hog() {
	var all [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
		if len(all)%8 == 0 {
			fmt.Println("has", len(all))
		}
	}
}
