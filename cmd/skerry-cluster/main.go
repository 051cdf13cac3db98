// Command skerry-cluster is the cluster agent.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/skerry-edge/skerry/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	door := &cluster.Door{Out: os.Stdout, Err: os.Stderr, Env: os.Environ()}
	code := door.Main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
