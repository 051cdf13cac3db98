package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/cgroup"
	"github.com/skerry-edge/skerry/edge/workload"
)

// killTime is how long what a killed supervisor left may take to end.
const killTime = 10 * time.Second

// List tells of all containers of this kind, by their bundles. One whose supervisor is gone without a word is ended for good.
func (r *Runtime) List(ctx context.Context) ([]workload.Observed, error) {
	entries, err := os.ReadDir(r.cfg.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []workload.Observed
	var errs []error
	for _, e := range entries {
		id := e.Name()
		if strings.HasPrefix(id, goneMark) { // an agent was killed while it removed it
			errs = append(errs, os.RemoveAll(filepath.Join(r.cfg.Dir, id)))
		}
		r.mu.Lock()
		starting := r.starting[id]
		r.mu.Unlock()
		if strings.HasPrefix(id, ".") || starting || !e.IsDir() {
			continue
		}
		st, err := r.inspect(ctx, filepath.Join(r.cfg.Dir, id))
		if errors.Is(err, os.ErrNotExist) {
			continue // it was removed meanwhile
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("container %s: %w", id, err))
			continue
		}
		if st.Record.Kind == r.cfg.Kind {
			out = append(out, observe(&st))
		}
	}
	return out, errors.Join(errs...)
}

func observe(st *bundle.State) workload.Observed {
	o := workload.Observed{ID: st.Record.ID, Workload: st.Record.Workload, Image: st.Record.Image, Started: st.Record.Created}
	if st.Begun != nil {
		o.Started = st.Begun.Started
		o.Pid = st.Begun.Pid
	}
	e := st.End
	if e == nil {
		o.Running = true
		return o
	}
	o.Pid = 0
	o.Finished, o.Exit, o.Signal, o.OOM, o.Unknown, o.Message = e.Finished, e.Exit, e.Signal, e.OOM, e.Unknown, e.Message
	if e.LostLog > 0 {
		o.Message = strings.TrimPrefix(fmt.Sprintf("%s; %d bytes of log could not be written", o.Message, e.LostLog), "; ")
	}
	return o
}

// inspect reads a bundle, and sees to it that one that nobody supervises has ended, is known to have, and left nothing.
func (r *Runtime) inspect(ctx context.Context, dir string) (bundle.State, error) {
	b, err := bundle.Open(dir)
	if err != nil {
		return bundle.State{}, err
	}
	st, err := r.settle(ctx, b)
	return st, errors.Join(err, b.Close())
}

func (r *Runtime) settle(ctx context.Context, b *bundle.Bundle) (bundle.State, error) {
	st, err := b.State()
	if err != nil {
		return st, err
	}
	if st.End == nil && st.Held {
		r.watch(st.Record.ID)
		return st, nil
	}
	if st.End != nil {
		return st, nil
	}
	if err := b.Take(); errors.Is(err, bundle.ErrHeld) { // a supervisor has just begun
		st.Held = true
		return st, nil
	} else if err != nil {
		return st, err
	}
	if st, err = b.State(); err != nil || st.End != nil { // what it wrote before it let go
		return st, err
	}
	end := &bundle.End{Exit: 255, Unknown: true, Finished: time.Now().Round(0)}
	switch {
	case st.Begun == nil:
		end.Message = "it was never started: the agent ended before"
	case st.Begun.Boot != r.boot:
		end.Message = "the node was restarted"
	default:
		end.Message = "its supervisor was killed"
		if end.OOM, err = r.bury(ctx, st.Begun); err != nil {
			return st, err
		}
	}
	st.End = end
	return st, b.Finish(end)
}

// bury ends what may be left of a container whose supervisor is gone: the kernel is doing so, and is waited for.
func (r *Runtime) bury(ctx context.Context, begun *bundle.Begun) (oom bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	if err := begun.Kill(r.boot); err != nil {
		return false, fmt.Errorf("kill supervisor: %w", err)
	}
	for begun.Running(r.boot) {
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("process %d does not end: %w", begun.Pid, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	group, err := cgroup.Open(begun.Cgroups)
	if err != nil {
		return false, err
	}
	oom = group.OOMKills() > 0
	return oom, errors.Join(group.Kill(ctx), group.Close())
}

// watch waits for the end of a container that another agent started.
func (r *Runtime) watch(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watched[id] || r.ctx.Err() != nil {
		return
	}
	r.watched[id] = true
	r.watchers.Go(func() {
		call, err := bundle.Dial(r.ctx, filepath.Join(r.cfg.Dir, id), &bundle.Request{Op: bundle.OpWatch})
		if err == nil {
			_, err = call.Run(r.ctx, bundle.Streams{})
		}
		if err != nil {
			select { // such as when it is about to listen, or has gone: List finds out which
			case <-r.ctx.Done():
			case <-time.After(time.Second):
			}
		}
		r.mu.Lock()
		delete(r.watched, id)
		r.mu.Unlock()
		r.changed()
	})
}
