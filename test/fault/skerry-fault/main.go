// Command skerry-fault breaks a site by a seed; see package fault.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/skerry-edge/skerry/test/fault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := (&fault.Door{Out: os.Stdout, Err: os.Stderr}).Main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
