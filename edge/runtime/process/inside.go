package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/cgroup"
	"github.com/skerry-edge/skerry/edge/workload"
)

// Exec runs a command inside; it ends with ctx.
func (r *Runtime) Exec(ctx context.Context, id string, e workload.Exec) (int, error) {
	if !r.Can().Exec {
		if _, err := r.running(ctx, id); err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("run in container %s: %w: there is nothing to run in a WebAssembly module", id, workload.ErrUnable)
	}
	exit, err := r.talk(ctx, id, &bundle.Request{Op: bundle.OpExec, Argv: e.Argv, TTY: e.TTY, Stdin: e.Stdin != nil}, e.Streams)
	if err != nil {
		return 0, fmt.Errorf("run in container %s: %w", id, err)
	}
	return exit.Code, nil
}

// Attach shows what the container prints from now on. The end of Stdin is that of the container's input.
func (r *Runtime) Attach(ctx context.Context, id string, s workload.Streams) error {
	exit, err := r.talk(ctx, id, &bundle.Request{Op: bundle.OpAttach, Stdin: s.Stdin != nil}, s)
	if err == nil && exit.Error != "" {
		err = errors.New(exit.Error)
	}
	if err != nil {
		return fmt.Errorf("attach to container %s: %w", id, err)
	}
	return nil
}

func (r *Runtime) talk(ctx context.Context, id string, q *bundle.Request, s workload.Streams) (bundle.Exit, error) {
	dir, err := r.running(ctx, id)
	if err != nil {
		return bundle.Exit{}, err
	}
	call, err := bundle.Dial(ctx, dir, q)
	if refused, ok := errors.AsType[*bundle.Refused](err); ok && refused.Ended {
		return bundle.Exit{}, fmt.Errorf("%w: it has ended", workload.ErrNotRunning)
	}
	if err != nil {
		if _, gone := r.running(ctx, id); gone != nil {
			return bundle.Exit{}, gone
		}
		return bundle.Exit{}, err
	}
	streams := bundle.Streams{Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr}
	if s.Resize != nil {
		sizes := make(chan bundle.Size)
		over, cancel := context.WithCancel(ctx)
		defer cancel()
		go translate(over, s.Resize, sizes)
		streams.Resize = sizes
	}
	return call.Run(ctx, streams)
}

// translate passes sizes on until ctx ends.
func translate(ctx context.Context, from <-chan workload.Size, to chan<- bundle.Size) {
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-from:
			if !ok {
				return
			}
			select {
			case <-ctx.Done():
				return
			case to <- bundle.Size{Columns: size.Columns, Rows: size.Rows}:
			}
		}
	}
}

// running gives the folder of a container that runs.
func (r *Runtime) running(ctx context.Context, id string) (string, error) {
	dir, err := r.dir(id)
	if err != nil {
		return "", err
	}
	st, err := r.inspect(ctx, dir)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%w: there is none of this name", workload.ErrNotRunning)
	}
	if err == nil && st.End != nil {
		err = fmt.Errorf("%w: it has ended", workload.ErrNotRunning)
	}
	return dir, err
}

// Stats reads the container's control groups and sizes its own layer.
func (r *Runtime) Stats(ctx context.Context, id string) (workload.Stats, error) {
	dir, err := r.running(ctx, id)
	if err != nil {
		return workload.Stats{}, err
	}
	st, err := r.inspect(ctx, dir)
	if err == nil && st.Begun == nil {
		err = fmt.Errorf("%w: it is being started", workload.ErrNotRunning)
	}
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
