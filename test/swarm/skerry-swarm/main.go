// Command skerry-swarm simulates node agents; see package swarm.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/skerry-edge/skerry/test/swarm"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := (&swarm.Door{Out: os.Stdout, Err: os.Stderr}).Main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
