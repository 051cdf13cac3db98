// Command skerry-edge is the node agent.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/skerry-edge/skerry/edge"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == edge.ShimCommand { // before anything is set up: there is one for each container
		os.Exit(edge.Shim(context.Background(), os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	door := &edge.Door{Out: os.Stdout, Err: os.Stderr, Env: os.Environ(), Argv: os.Args}
	code := door.Main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
