package kubelet

import (
	"context"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Pods finds what callers ask for.
type Pods interface {
	// Pod returns nil for one that is not there, or is not bound to a virtual node.
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	// On lists the pods of a node.
	On(ctx context.Context, node string) ([]corev1.Pod, error)
	// Node is the virtual node whose kubelet API a port is; empty for none.
	Node(port int) string
}

// Container is one on a device.
type Container struct {
	Node     string
	Pod      string // namespace/name, for the audit log
	Workload string // the pod's UID
	Name     string
}

// Logs is what to read of a log.
type Logs struct {
	Follow     bool
	Previous   bool
	Timestamps bool
	Tail       int64 // lines; -1: all
	LimitBytes int64 // 0: all
	Since      time.Time
}

// Streams are the ends of a conversation; nil ones are not used. Resize is closed when it ends.
type Streams struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	TTY    bool
	Resize <-chan Size
}

// Size of a terminal in cells.
type Size struct{ Width, Height uint16 }

// Inside reaches into containers. An error is for the caller; by is who that is to the API server, for the audit log: as a rule the API
// server itself.
type Inside interface {
	Logs(ctx context.Context, by string, c Container, l Logs, w io.Writer) error
	// Exec returns the exit code of argv. With no argv it attaches to the container itself.
	Exec(ctx context.Context, by string, c Container, argv []string, s Streams) (exit int, err error)
	Forward(ctx context.Context, by string, c Container, port int32, conn io.ReadWriteCloser) error
}

// Gauges tell what devices and their containers use.
type Gauges interface {
	Usage(ctx context.Context, node string) (*Usage, error)
}

// Usage is of one device. CPU seconds only grow.
type Usage struct {
	At           time.Time
	CPUSeconds   float64
	MemoryBytes  uint64 // the working set
	StartSeconds float64
	Containers   []ContainerUsage
}

// ContainerUsage is of one container.
type ContainerUsage struct {
	Workload    string
	Container   string
	Started     time.Time
	CPUSeconds  float64
	MemoryBytes uint64
	RSSBytes    uint64
	Processes   uint64
}
