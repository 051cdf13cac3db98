package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/cgroup"
)

// StreamsPrefix begins the argument of a process that only keeps the streams of a container which somebody else runs; the folder
// of its bundle follows.
const StreamsPrefix = "streams:"

// Streams is what such a process is told, as JSON, by the file StreamsFile of the bundle. The container's ends are pipes with
// names, stdin, stdout and stderr, in the bundle.
type Streams struct {
	Log      string `json:"log"`
	LogBytes int64  `json:"logBytes"`
	TTY      bool   `json:"tty"`
	Stdin    bool   `json:"stdin"`
	Stop     int    `json:"stop"`   // the signal that ends the program
	Cgroup   string `json:"cgroup"` // the folder of all containers; this process is beside them
}

// StreamsFile is its name in a bundle.
const StreamsFile = "streams"

// keepStreams writes the log of a container and serves those who attach, until the container's output ends or the agent says so.
func keepStreams(dir string) int {
	deaf(make(chan os.Signal, 1))
	syscall.CloseOnExec(readyFD)
	ready := os.NewFile(readyFD, "ready")
	s, pipes, err := openStreams(dir)
	tell(ready, err)
	if err != nil {
		return 1
	}
	go s.serve()
	for stream, path := range pipes {
		s.output.Go(func() {
			f, err := os.OpenFile(path, os.O_RDONLY, 0) // waits for who writes
			if err != nil {
				return
			}
			copyLog(f, stream, s.log, s.publish)
			_ = f.Close() // it was read to its end
		})
	}
	if s.spec.Stdin {
		go s.openInput()
	}
	done := make(chan struct{})
	go func() {
		s.output.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-s.quit:
	}
	s.log.sync()
	s.leave()
	return 0
}

// openInput takes hold of the container's input, once there is somebody who reads it.
func (s *supervisor) openInput() {
	f, err := os.OpenFile("stdin", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.stdin = f
	s.mu.Unlock()
}

func openStreams(dir string) (*supervisor, map[string]string, error) {
	if err := os.Chdir(dir); err != nil {
		return nil, nil, err
	}
	raw, err := os.ReadFile(StreamsFile)
	var cfg Streams
	if err == nil {
		err = json.Unmarshal(raw, &cfg)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read what to keep: %w", err)
	}
	b, err := bundle.Open(".")
	if err != nil {
		return nil, nil, err
	}
	if err := b.Take(); err != nil {
		return nil, nil, err
	}
	s := &supervisor{spec: &bundle.Spec{TTY: cfg.TTY, Stdin: cfg.Stdin}, dir: dir, bundle: b, attached: map[*attachment]struct{}{},
		over: make(chan struct{}), quit: make(chan struct{})}
	tree, err := cgroup.Find()
	if err == nil {
		_ = tree.Leave(cfg.Cgroup, shedCgroup) // it works without
	}
	if s.log, err = openLog(cfg.Log, cfg.LogBytes); err != nil {
		return nil, nil, err
	}
	if err := os.Remove(bundle.SocketFile); err != nil && !errors.Is(err, os.ErrNotExist) { // of one that was killed
		return nil, nil, err
	}
	pipes := map[string]string{"stdout": "stdout"}
	if !cfg.TTY {
		pipes["stderr"] = "stderr"
	}
	return s, pipes, s.listen()
}

// leave tells those who are attached, and waits a little for them.
func (s *supervisor) leave() {
	close(s.over)
	done := make(chan struct{})
	go func() {
		s.calls.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(flushTime):
	}
}

// StartStreams starts such a process, which lives on whatever becomes of this one, and waits for its word. argv is the command
// line of a supervisor without its argument. gone is closed when it has ended.
func StartStreams(argv []string, dir string) (gone <-chan struct{}, err error) {
	theirs, said, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := &os.ProcAttr{Dir: "/", Env: []string{"GOTRACEBACK=single", "GOMAXPROCS=1", "GOGC=20"}, Sys: &syscall.SysProcAttr{Setsid: true}}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(err, theirs.Close(), said.Close())
	}
	cmd.Files = []*os.File{null, null, null, said}
	p, err := os.StartProcess(argv[0], append(argv[:len(argv):len(argv)], StreamsPrefix+dir), cmd)
	if err := errors.Join(err, said.Close(), null.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("start keeper of streams: %w", err), theirs.Close())
	}
	done := make(chan struct{})
	go func() { // not joined: it outlives us
		_, _ = p.Wait() // nothing is known by how it ends
		close(done)
	}()
	raw, err := io.ReadAll(io.LimitReader(theirs, 64<<10))
	var r Ready
	if err == nil {
		if err = json.Unmarshal(raw, &r); err != nil {
			err = errors.New("the keeper of streams ended before it had them")
		}
	}
	if r.Error != "" {
		err = errors.New(r.Error)
	}
	return done, errors.Join(err, theirs.Close())
}

// stopStreams ends a keeper of streams, whose container is gone.
func (s *supervisor) stopStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.quit:
	default:
		close(s.quit)
	}
}

// errStreams is told to who asks a keeper of streams for more.
var errStreams = fmt.Errorf("request: wanted %s, %s or %s: %w", bundle.OpAttach, bundle.OpWatch, bundle.OpSignal, unix.ENOSYS)
