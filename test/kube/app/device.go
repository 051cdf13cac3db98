//go:build !wasip1

package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// serve answers hello, and counts on stdout.
func serve(address string) error {
	done := make(chan error, 1)
	go func() {
		done <- http.ListenAndServe(address, http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) { fmt.Fprintln(rw, "hello", req.URL.Path) }))
	}()
	go func() { done <- count() }()
	return <-done
}

// terminal tells the size of its terminal, whenever a line comes.
func terminal() error {
	var b [256]byte
	for {
		ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if err != nil {
			return fmt.Errorf("stdin is no terminal: %w", err)
		}
		fmt.Printf("%d columns\n", ws.Col)
		n, err := os.Stdin.Read(b[:])
		if err != nil || strings.TrimSpace(string(b[:n])) == "end" {
			return nil
		}
	}
}
