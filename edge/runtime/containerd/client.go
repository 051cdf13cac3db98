//go:build !lite

package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/events/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Namespace is where in containerd our containers are.
const Namespace = "skerry"

// Usual is where a containerd listens that nobody told another place.
const Usual = "/run/containerd/containerd.sock"

// places are where a containerd listens, by itself and in k3s.
var places = []string{Usual, "/run/k3s/containerd/containerd.sock"}

// Find tells where a containerd listens: at socket, or, when that is empty, in the first of its usual places; "" when nowhere.
func Find(socket string) string {
	list := places
	if socket != "" {
		list = []string{socket}
	}
	for _, path := range list {
		if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
			return path
		}
	}
	return ""
}

// client is what is used of containerd.
type client struct {
	conn       *grpc.ClientConn
	containers containers.ContainersClient
	tasks      tasks.TasksClient
	events     events.EventsClient
}

// callTime bounds a call that waits for nothing.
const callTime = 30 * time.Second

func dial(socket string) (*client, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second}}),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, in, out any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return call(named(ctx), method, in, out, cc, opts...)
		}))
	if err != nil {
		return nil, fmt.Errorf("containerd at %s: %w", socket, err)
	}
	return &client{conn, containers.NewContainersClient(conn), tasks.NewTasksClient(conn), events.NewEventsClient(conn)}, nil
}

// named adds the namespace to a call.
func named(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", Namespace)
}

// absent tells an answer that something is not there.
func absent(err error) bool { return status.Code(err) == codes.NotFound }

// over tells an answer that a process has ended already.
func over(err error) bool { return absent(err) || status.Code(err) == codes.FailedPrecondition }

// plain is the error of a call, as that of ctx when it ended.
func plain(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s, ok := status.FromError(err); ok {
		err = errors.New(s.Message())
	}
	return fmt.Errorf("containerd: %s: %w", what, err)
}
