// Command app is what the pods of tests run: a program with nothing beside it in its image.
package main

import (
	"context"
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
	if len(os.Args) < 2 {
		os.Args = append(os.Args, "serve", "127.0.0.1:0")
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(verb string, args []string) error {
	switch verb {
	case "serve":
		return serve(args[0])
	case "count":
		return count()
	case "exit":
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		fmt.Println("I end with", code)
		os.Exit(code)
	case "echo":
		fmt.Println(strings.Join(args, " "))
	case "env":
		fmt.Println(os.Getenv(args[0]))
	case "read":
		raw, err := os.ReadFile(args[0])
		fmt.Print(string(raw))
		return err
	case "write":
		return os.WriteFile(args[0], []byte(args[1]), 0o600)
	case "cat":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "terminal":
		return terminal()
	case "memory":
		return memory(args[0])
	default:
		return fmt.Errorf("verb %q", verb)
	}
	return nil
}

// count writes a line each 100 ms until it is asked to end.
func count() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 1; ; i++ {
		fmt.Println("line", i)
		select {
		case <-tick.C:
		case <-ctx.Done():
			fmt.Println("asked to end")
			return nil
		}
	}
}

// memory takes and touches so many MiB, and then waits.
func memory(mib string) error {
	n, err := strconv.Atoi(mib)
	if err != nil {
		return err
	}
	held := make([][]byte, n)
	for i := range held {
		held[i] = make([]byte, 1<<20)
		for j := 0; j < len(held[i]); j += 4096 {
			held[i][j] = 1
		}
	}
	fmt.Println("held", len(held))
	return count()
}
