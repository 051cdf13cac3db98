// Command skerry-scale measures one cluster agent under thousands of simulated nodes; `skerry-scale --help` tells.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/skerry-edge/skerry/test/scale"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := (&scale.Door{Out: os.Stdout, Err: os.Stderr}).Main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
