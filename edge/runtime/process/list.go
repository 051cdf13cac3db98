package process

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/cgroup"
	"github.com/skerry-edge/skerry/edge/runtime/launch"
	"github.com/skerry-edge/skerry/edge/workload"
)

// killTime is how long what a killed supervisor left may take to end.
const killTime = 10 * time.Second

// List tells of all containers of this kind, by their bundles. One whose supervisor is gone without a word is ended for good.
func (r *Runtime) List(ctx context.Context) (out []workload.Observed, err error) {
	err = launch.Each(r.cfg.Dir, r.starting.Has, func(id string) error {
		st, err := r.inspect(ctx, filepath.Join(r.cfg.Dir, id))
		if err == nil && st.Record.Kind == r.cfg.Kind {
			out = append(out, launch.Observed(&st))
		}
		return err
	})
	return out, err
}

// inspect reads a bundle, and sees to it that one that nobody supervises has ended, is known to have, and left nothing.
func (r *Runtime) inspect(ctx context.Context, dir string) (bundle.State, error) {
	b, err := bundle.Open(dir)
	if err != nil {
		return bundle.State{}, err
	}
	st, err := r.settle(ctx, b, dir)
	return st, errors.Join(err, b.Close())
}

func (r *Runtime) settle(ctx context.Context, b *bundle.Bundle, dir string) (bundle.State, error) {
	st, err := b.StateIn(dir)
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
	if st, err = b.StateIn(dir); err != nil || st.End != nil { // what it wrote before it let go
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
