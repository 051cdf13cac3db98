// Command skerry looks after far-edge nodes from a terminal.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/skerry-edge/skerry/cli"
)

func main() {
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		signals = append(signals, syscall.SIGHUP) // the terminal is gone
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	// A second Ctrl-C ends the program at once. One that comes with the first is the same one: it was sent to the process
	// and to its group.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	app := &cli.App{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Getenv, Now: time.Now}
	code := app.Main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
