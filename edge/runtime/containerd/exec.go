//go:build !lite

package containerd

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/edge/workload"
)

// pipeBytes is what the command's pipe, its shim and ours hold.
const pipeBytes = 3 * agent.PipeBytes

// Exec runs a command inside; it ends with ctx.
func (r *Runtime) Exec(ctx context.Context, id string, e workload.Exec) (int, error) {
	dir, _, err := r.running(ctx, id)
	if err != nil {
		return 0, err
	}
	if len(e.Argv) == 0 {
		return 0, errors.New("no command")
	}
	raw, err := r.command(ctx, id, &e)
	if err != nil {
		return 0, err
	}
	pipes, err := os.MkdirTemp(dir, "exec-")
	if err != nil {
		return 0, err
	}
	x := &execution{Runtime: r, id: id, name: "e" + rand.Text(), dir: pipes, what: &e, ended: make(chan struct{})}
	exit, err := x.run(ctx, raw)
	x.close(ctx)
	if err != nil {
		if _, _, gone := r.running(ctx, id); gone != nil && ctx.Err() == nil {
			err = gone
		}
		return 0, fmt.Errorf("run in container %s: %w", id, err)
	}
	return exit, nil
}

// command describes a command as the container's own program was, which has the same rights.
func (r *Runtime) command(ctx context.Context, id string, e *workload.Exec) ([]byte, error) {
	got, err := r.client.containers.Get(ctx, &containers.GetContainerRequest{ID: r.called(id)})
	if err != nil {
		return nil, plain(ctx, "look at container", err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(got.GetContainer().GetSpec().GetValue(), &spec); err != nil || spec.Process == nil {
		return nil, fmt.Errorf("specification of container %s: %w", id, err)
	}
	p := spec.Process
	if e.TTY && !p.Terminal {
		p.Env = append(slices.Clone(p.Env), "TERM=xterm")
	}
	p.Args, p.Terminal, p.ConsoleSize = e.Argv, e.TTY, nil
	return json.Marshal(p)
}

// execution is one command under way.
type execution struct {
	*Runtime
	id, name, dir string
	what          *workload.Exec
	begun         bool
	output        sync.WaitGroup
	ended         chan struct{}

	mu    sync.Mutex
	pipes []*os.File // those of the output that somebody writes to
}

func (x *execution) run(ctx context.Context, process []byte) (int, error) {
	q := &tasks.ExecProcessRequest{ContainerID: x.called(x.id), ExecID: x.name, Terminal: x.what.TTY, Spec: &anypb.Any{TypeUrl: processType, Value: process}}
	var err error
	if q.Stdout, err = x.pipe("stdout"); err != nil {
		return 0, err
	}
	x.output.Go(func() { x.copyOut("stdout", x.what.Stdout) })
	if !x.what.TTY {
		if q.Stderr, err = x.pipe("stderr"); err != nil {
			return 0, err
		}
		x.output.Go(func() { x.copyOut("stderr", x.what.Stderr) })
	}
	if x.what.Stdin != nil {
		if q.Stdin, err = x.pipe("stdin"); err != nil {
			return 0, err
		}
	}
	if _, err := x.client.tasks.Exec(ctx, q); err != nil {
		return 0, plain(ctx, "make command", err)
	}
	x.begun = true
	if x.what.Stdin != nil {
		go x.copyIn(ctx) // a Read that is under way at the end is not waited for
	}
	if _, err := x.client.tasks.Start(ctx, &tasks.StartRequest{ContainerID: x.called(x.id), ExecID: x.name}); err != nil {
		return 0, plain(ctx, "start command", err)
	}
	over, cancel := context.WithCancel(ctx)
	defer cancel()
	go x.resize(over, x.id, x.name, x.what.Resize)
	end, err := x.client.tasks.Wait(ctx, &tasks.WaitRequest{ContainerID: x.called(x.id), ExecID: x.name})
	if err != nil {
		return 0, plain(ctx, "wait for command", err)
	}
	x.drain()
	return int(end.GetExitStatus()), nil
}

func (x *execution) pipe(stream string) (string, error) {
	path := filepath.Join(x.dir, stream)
	return path, unix.Mkfifo(path, 0o600)
}

// copyOut passes on what a stream brings, once somebody writes to it, to its end. What nobody wants is read all the same.
func (x *execution) copyOut(stream string, to io.Writer) {
	f, err := os.OpenFile(filepath.Join(x.dir, stream), os.O_RDONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if to == nil {
		to = io.Discard
	}
	x.opened(f)
	if agent.Drain(to, f, x.ended, pipeBytes) != nil { // nobody takes it any more
		_, _ = io.Copy(io.Discard, f)
	}
}

func (x *execution) opened(f *os.File) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pipes = append(x.pipes, f)
	select {
	case <-x.ended:
		_ = agent.Wake(f) // it is open
	default:
	}
}

func (x *execution) copyIn(ctx context.Context) {
	f, err := os.OpenFile(filepath.Join(x.dir, "stdin"), os.O_WRONLY, 0)
	if err != nil {
		return
	}
	_, err = io.Copy(f, x.what.Stdin)
	_ = f.Close() // the command has all that there was
	if err == nil {
		x.closeInput(ctx, x.id, x.name)
	}
}

// drain waits for the rest of the output, however slowly it is taken.
func (x *execution) drain() {
	x.mu.Lock()
	close(x.ended)
	for _, f := range x.pipes {
		_ = agent.Wake(f) // fails where nothing can come any more
	}
	x.mu.Unlock()
	x.release()
	x.output.Wait()
}

// release ends the wait of everybody for the other side of one of the pipes.
func (x *execution) release() {
	for stream, flag := range map[string]int{"stdout": os.O_WRONLY, "stderr": os.O_WRONLY, "stdin": os.O_RDONLY} {
		if f, err := os.OpenFile(filepath.Join(x.dir, stream), flag|unix.O_NONBLOCK, 0); err == nil { // whoever waits has it now
			_ = f.Close()
		}
	}
}

// close ends what may be left of the command, and everybody who waits at one of its pipes.
func (x *execution) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
	defer cancel()
	if x.begun {
		_, _ = x.client.tasks.Kill(ctx, &tasks.KillRequest{ContainerID: x.called(x.id), ExecID: x.name, Signal: uint32(unix.SIGKILL)}) // most have ended
		for range 50 {
			_, err := x.client.tasks.DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: x.called(x.id), ExecID: x.name})
			if err == nil || absent(err) {
				break
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	x.release()
	_ = os.RemoveAll(x.dir) // with the container at the latest
}
