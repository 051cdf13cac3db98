package workload

import (
	"context"
	"io"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Runtime runs containers of one kind. What it runs outlives the agent: a container goes on while the agent is restarted,
// updated or killed, and List finds it afterwards. Safe for concurrent use; calls for one container come one at a time.
type Runtime interface {
	// Name is process, wasm or containerd.
	Name() string
	// Can tells what its containers can beyond running. A call for what they cannot fails with ErrUnable.
	Can() Ability
	Images
	Containers
	Inside
}

// Ability is what the containers of a runtime can.
type Ability struct {
	Exec    bool // commands can be run inside
	Signals bool // a program takes SIGTERM, and has its grace to end as it likes
}

// Images keeps what containers are made of.
type Images interface {
	// Pull makes the image of ref present and returns its digest, sha256:…. With PullMissing an image that is there is not asked
	// for. progress may be nil; total is 0 while unknown. An error wraps ErrNoImage when nobody has it, ErrBadImage when what came
	// is not to be used; any other may pass by itself.
	Pull(ctx context.Context, ref string, policy api.PullPolicy, progress func(done, total int64)) (digest string, err error)
	// Collect removes images that are none of keep, digests, and in no container.
	Collect(ctx context.Context, keep []string) (freedBytes int64, err error)
}

// Containers begins and ends them.
type Containers interface {
	// Start creates and starts a container. One with the same ID that runs already is left alone and is no error: the agent may
	// have been killed after it began. An error wraps ErrBadContainer when c asks for what cannot be.
	Start(ctx context.Context, c Container) error
	// Stop sends SIGTERM, SIGKILL after grace, and returns when the container has ended; nil when it is not there. When ctx ends
	// first, the container is left as it is.
	Stop(ctx context.Context, id string, grace time.Duration) error
	// Remove forgets a container that has ended, and its files but for the log; nil when it is not there.
	Remove(ctx context.Context, id string) error
	// List tells of all containers, running or ended.
	List(ctx context.Context) ([]Observed, error)
	// Changes is signalled, with room for one, when List would tell something new.
	Changes() <-chan struct{}
}

// Inside reaches into a running container. An error wraps ErrNotRunning when it is not, ErrUnable when it cannot.
type Inside interface {
	// Exec runs a command inside and returns its exit code.
	Exec(ctx context.Context, id string, e Exec) (exit int, err error)
	// Attach ties streams to those of the container itself until it ends or ctx does.
	Attach(ctx context.Context, id string, s Streams) error
	// Stats tells what it uses now.
	Stats(ctx context.Context, id string) (Stats, error)
}

// Container is what a runtime needs to run one: everything is resolved, expanded and unsealed.
type Container struct {
	ID       string // unique on the node: workload, container and number of the run, see ContainerID
	Workload string
	Name     string
	Image    string // digest, as Pull returned it
	Command  []string
	Args     []string
	Dir      string
	Env      []string // NAME=value, in addition to the image's
	Mounts   []Mount
	Limits   api.Resources
	Requests api.Resources // of the CPU: its part where there is too little for all
	Hostname string        // empty: the node's
	Security api.Confinement
	TTY      bool
	Stdin    bool
	Log      string // file that stdout and stderr are appended to, each line in the format of CRI logs
	LogBytes int64  // the file is renamed to Log.1 when it would grow beyond
}

// Mount shows a file or folder of the node inside a container.
type Mount struct {
	Source   string
	Target   string
	Within   string // when set, a folder of the node that Source, with its symbolic links followed, may not leave
	ReadOnly bool
}

// Observed is how a container stands. Exit and Finished count once Running is false.
type Observed struct {
	ID       string
	Workload string
	Running  bool
	Pid      int // 0 when there is none
	Image    string
	Started  time.Time
	Finished time.Time
	Exit     int
	Signal   int
	OOM      bool
	Unknown  bool // how it ended is not known, such as after a reboot
	Message  string
}

// Streams are the ends of a conversation; nil ones are not used.
type Streams struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Resize <-chan Size
}

// Size of a terminal in cells.
type Size struct {
	Columns uint16 `json:"Width"` // as the kubelet's streams name them
	Rows    uint16 `json:"Height"`
}

// Exec is a command to run inside.
type Exec struct {
	Argv []string
	TTY  bool
	Streams
}

// Stats is what a container uses. CPU only grows while the container runs.
type Stats struct {
	At            time.Time
	CPU           time.Duration
	MemoryBytes   uint64 // the working set: without page cache that can be given back
	RSSBytes      uint64
	Processes     uint64
	DiskBytes     uint64 // what it has written to its root
	ThrottledTime time.Duration
}
