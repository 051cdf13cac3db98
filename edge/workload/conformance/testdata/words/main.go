// Command words is the program in images that runtimes are tested with: it obeys a few words, one after the other, as
// conformance.Subject says. Built for wasip1, it is a module.
package main

import (
	"os"
	"strconv"
	"time"
)

// say writes a line. It is not package fmt, which would make most of a module that every test compiles.
func say(words ...string) { sayTo(os.Stdout, words...) }

func sayTo(f *os.File, words ...string) {
	line := ""
	for i, w := range words {
		if i > 0 {
			line += " "
		}
		line += w
	}
	_, _ = f.WriteString(line + "\n") // whoever reads it misses it
}

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
			sayTo(to, next)
			words = words[1:]
		case "exit":
			code, err := strconv.Atoi(next)
			if err != nil {
				code = 125
			}
			os.Exit(code)
		case "stubborn":
			beStubborn()
		case "env":
			say(os.Getenv(next))
			words = words[1:]
		case "cat":
			cat()
		case "read":
			raw, err := os.ReadFile(next)
			report("read", err)
			say(string(raw))
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
			say(names...)
			words = words[1:]
		case "who":
			who()
		case "size":
			size()
		case "hog":
			hog()
		case "grow":
			grow()
		case "spin":
			for i := 0; ; i++ {
				if i == -1 {
					say()
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
		say(what, "failed:", err.Error())
	}
}

func cat() {
	buf := make([]byte, 4096)
	for {
		n, err := os.Stdin.Read(buf)
		if n > 0 {
			_, _ = os.Stdout.Write(buf[:n]) // whoever reads it misses it
		}
		if err != nil {
			return
		}
	}
}

// grow takes 8 MiB, little by little, and touches them, again and again: whoever looks sees some of it.
func grow() {
	for {
		all := make([]byte, 8<<20)
		for i := 0; i < len(all); i += 4096 {
			all[i] = 1
			if i%(1<<20) == 0 {
				time.Sleep(20 * time.Millisecond)
			}
		}
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
			say("has", strconv.Itoa(len(all)))
		}
	}
}
