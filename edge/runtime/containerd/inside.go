//go:build !lite

package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/cgroup"
	"github.com/skerry-edge/skerry/edge/workload"
)

// running gives the folder of a container that runs, and how it stands.
func (r *Runtime) running(ctx context.Context, id string) (string, bundle.State, error) {
	dir, err := r.dir(id)
	if err != nil {
		return "", bundle.State{}, err
	}
	st, err := r.inspect(ctx, id)
	if errors.Is(err, os.ErrNotExist) {
		return "", st, fmt.Errorf("%w: there is none of this name", workload.ErrNotRunning)
	}
	if err == nil && st.End != nil {
		err = fmt.Errorf("%w: it has ended", workload.ErrNotRunning)
	}
	return dir, st, err
}

// Attach shows what the container prints from now on. The end of Stdin is that of the container's input.
func (r *Runtime) Attach(ctx context.Context, id string, s workload.Streams) error {
	dir, _, err := r.running(ctx, id)
	if err != nil {
		return err
	}
	call, err := bundle.Dial(ctx, dir, &bundle.Request{Op: bundle.OpAttach, Stdin: s.Stdin != nil})
	if err != nil {
		if _, _, gone := r.running(ctx, id); gone != nil {
			return gone
		}
		return fmt.Errorf("attach to container %s: %w", id, err)
	}
	over, cancel := context.WithCancel(ctx)
	defer cancel()
	go r.resize(over, id, "", s.Resize)
	streams := bundle.Streams{Stdout: s.Stdout, Stderr: s.Stderr}
	if s.Stdin != nil {
		streams.Stdin = &ending{Reader: s.Stdin, end: func() { r.closeInput(over, id, "") }}
	}
	exit, err := call.Run(ctx, streams)
	if err == nil && exit.Error != "" {
		err = errors.New(exit.Error)
	}
	if err != nil {
		return fmt.Errorf("attach to container %s: %w", id, err)
	}
	return nil
}

// ending tells of the end of what it reads.
type ending struct {
	io.Reader
	end func()
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		e.end()
	}
	return n, err
}

// closeInput has containerd's shim let go of the input of a program, which then ends with who else holds it.
func (r *Runtime) closeInput(ctx context.Context, id, exec string) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, _ = r.client.tasks.CloseIO(ctx, &tasks.CloseIORequest{ContainerID: r.called(id), ExecID: exec, Stdin: true}) // it fails for one that has ended
}

// resize passes sizes of a terminal on until ctx ends.
func (r *Runtime) resize(ctx context.Context, id, exec string, sizes <-chan workload.Size) {
	for sizes != nil {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-sizes:
			if !ok {
				return
			}
			call, cancel := context.WithTimeout(ctx, callTime)
			_, _ = r.client.tasks.ResizePty(call, &tasks.ResizePtyRequest{ContainerID: r.called(id), ExecID: exec, Width: uint32(size.Columns), Height: uint32(size.Rows)}) // it fails for one that has ended
			cancel()
		}
	}
}

// Stats reads the container's control groups and sizes its own layer.
func (r *Runtime) Stats(ctx context.Context, id string) (workload.Stats, error) {
	dir, st, err := r.running(ctx, id)
	if err != nil {
		return workload.Stats{}, err
	}
	group, err := cgroup.Open(st.Begun.Cgroups)
	if err != nil {
		return workload.Stats{}, err
	}
	u := group.Usage()
	disk, err := bundle.DiskUsage(ctx, filepath.Join(dir, bundle.UpperDir))
	return workload.Stats{At: time.Now(), CPU: u.CPU, MemoryBytes: u.Memory, RSSBytes: u.RSS, Processes: u.Processes, DiskBytes: disk,
		ThrottledTime: u.Throttled}, errors.Join(err, group.Close())
}
