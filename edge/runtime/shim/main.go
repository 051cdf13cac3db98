package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
)

// Ready is what a supervisor tells the agent that began it, as JSON, on descriptor 3.
type Ready struct {
	Error string `json:"error,omitempty"`
}

// Descriptors that the agent hands over.
const (
	specFD  = 0
	readyFD = 3
)

// maxSpec bounds what an agent hands over.
const maxSpec = 8 << 20

// shedCgroup is where supervisors are, so that neither a limit of a container nor the end of the agent's service reaches them.
const shedCgroup = "_shims"

// Main is the supervisor. Its one argument is the folder of a bundle; what to run comes on descriptor 0. It returns when the
// container has ended and how is on disk.
func Main(ctx context.Context, args []string) int {
	if len(args) == 1 {
		if dir, ok := strings.CutPrefix(args[0], StreamsPrefix); ok {
			return keepStreams(dir)
		}
	}
	runtime.LockOSThread() // the first thread stays in the group of supervisors and unconfined; others are used up
	children := make(chan os.Signal, 1)
	deaf(children)
	syscall.CloseOnExec(readyFD)
	ready := os.NewFile(readyFD, "ready")
	s, err := prepare(args)
	if err == nil {
		err = s.run(ctx, children, func() { tell(ready, nil) })
	}
	if err != nil {
		tell(ready, err)
		return 1
	}
	return 0
}

// tell tells the agent, which may have gone; only the first word counts.
func tell(ready *os.File, err error) {
	var r Ready
	if err != nil {
		r.Error = err.Error()
	}
	if raw, merr := json.Marshal(r); merr == nil {
		_, _ = ready.Write(raw) // a dead agent finds the container by its bundle
	}
	_ = ready.Close() // nobody to tell
}

// deaf keeps every signal from ending the supervisor; that of children goes to its channel.
func deaf(children chan<- os.Signal) {
	all := make(chan os.Signal, 1) // and what does not fit is dropped
	signal.Notify(all)
	signal.Reset(syscall.SIGCHLD, syscall.SIGURG)
	signal.Notify(children, syscall.SIGCHLD)
}

// prepare reads what to run and takes the bundle.
func prepare(args []string) (*supervisor, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("%d arguments; wanted the folder of a container", len(args))
	}
	spec, err := readSpec()
	if err != nil {
		return nil, err
	}
	if err := os.Chdir(args[0]); err != nil {
		return nil, err
	}
	b, err := bundle.Open(".")
	if err != nil {
		return nil, err
	}
	if err := b.Take(); err != nil {
		return nil, err
	}
	st, err := b.State()
	if err != nil {
		return nil, err
	}
	if st.Begun != nil || st.End != nil {
		return nil, errors.New("this container has run before")
	}
	return &supervisor{spec: spec, dir: args[0], bundle: b, reaper: &reaper{waiting: map[int]chan<- unix.WaitStatus{}},
		attached: map[*attachment]struct{}{}, over: make(chan struct{})}, nil
}

// readSpec reads what to run, to the end: half of it runs nothing.
func readSpec() (*bundle.Spec, error) {
	raw, err := io.ReadAll(io.LimitReader(descriptor(specFD), maxSpec+1))
	if err == nil && len(raw) > maxSpec {
		err = fmt.Errorf("wanted at most %d bytes", maxSpec)
	}
	var spec bundle.Spec
	if err == nil {
		err = json.Unmarshal(raw, &spec)
	}
	if err != nil {
		return nil, fmt.Errorf("read what to run: %w", err)
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &spec, errors.Join(unix.Dup3(int(null.Fd()), specFD, unix.O_CLOEXEC), null.Close())
}

// descriptor reads from one that is not given back: its number stays taken. An os.File would close it when it is collected.
type descriptor int

func (d descriptor) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(d), p)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// self is this process as the node counts, which the node's /proc tells even to the first process of a namespace.
func self() (pid int, start uint64, boot string, err error) {
	name, err := os.Readlink("/proc/self")
	if err == nil {
		pid, err = strconv.Atoi(name)
	}
	if err != nil {
		return 0, 0, "", fmt.Errorf("read /proc/self: %w", err)
	}
	if start, err = bundle.StartOf(pid); err != nil {
		return 0, 0, "", err
	}
	boot, err = bundle.BootID()
	return pid, start, boot, err
}

// oneLine is an error, which may be several, as one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
