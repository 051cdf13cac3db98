//go:build !lite

package containerd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/cgroup"
	"github.com/skerry-edge/skerry/edge/runtime/launch"
	"github.com/skerry-edge/skerry/edge/runtime/shim"
	"github.com/skerry-edge/skerry/edge/workload"
)

// List tells of all containers, by their folders and containerd's tasks.
func (r *Runtime) List(ctx context.Context) (out []workload.Observed, err error) {
	if _, err := os.Stat(r.cfg.Dir); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	found, err := r.tasks(ctx)
	if err != nil {
		return nil, err
	}
	err = launch.Each(r.cfg.Dir, r.starting.Has, func(id string) error {
		st, err := r.settle(ctx, id, found[r.called(id)])
		if err == nil {
			out = append(out, launch.Observed(&st))
		}
		return err
	})
	return out, err
}

// tasks are containerd's, by its names of containers.
func (r *Runtime) tasks(ctx context.Context) (map[string]*task.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	all, err := r.client.tasks.List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, plain(ctx, "list tasks", err)
	}
	out := map[string]*task.Process{}
	for _, p := range all.GetTasks() {
		out[p.GetID()] = p
	}
	return out, nil
}

// task is that of a container; nil when there is none.
func (r *Runtime) task(ctx context.Context, id string) (*task.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	got, err := r.client.tasks.Get(ctx, &tasks.GetRequest{ContainerID: r.called(id)})
	if absent(err) {
		return nil, nil
	}
	return got.GetProcess(), plain(ctx, "look at task", err)
}

// inspect tells how a container stands. An error is os.ErrNotExist when it is not there.
func (r *Runtime) inspect(ctx context.Context, id string) (bundle.State, error) {
	if _, err := os.Lstat(filepath.Join(r.cfg.Dir, id)); err != nil {
		return bundle.State{}, err
	}
	p, err := r.task(ctx, id)
	if err != nil {
		return bundle.State{}, err
	}
	return r.settle(ctx, id, p)
}

// settle joins what the folder and containerd tell. What has ended is written down once, as containerd forgets it when the
// node restarts.
func (r *Runtime) settle(ctx context.Context, id string, p *task.Process) (bundle.State, error) {
	dir := filepath.Join(r.cfg.Dir, id)
	b, err := bundle.Open(dir)
	if err != nil {
		return bundle.State{}, err
	}
	st, err := b.StateIn(dir)
	if err == nil && st.End == nil && (p == nil || p.GetStatus() == task.Status_CREATED) { // by a look from before it was started, perhaps
		p, err = r.task(ctx, id)
	}
	if err == nil && st.End == nil {
		if st.End = r.endOf(&st, p); st.End != nil {
			err = b.Finish(st.End)
			st.End.Finished = st.End.Finished.Round(0)
		} else if !st.Held {
			r.keepAgain(id)
		}
	}
	return st, errors.Join(err, b.Close())
}

// endOf tells how a container has ended; nil while it runs.
func (r *Runtime) endOf(st *bundle.State, p *task.Process) *bundle.End {
	switch {
	case st.Begun == nil:
		return &bundle.End{Exit: 255, Unknown: true, Finished: time.Now(), Message: "it was never started: the agent ended before"}
	case p == nil && st.Begun.Boot != r.boot:
		return &bundle.End{Exit: 255, Unknown: true, Finished: time.Now(), Message: "the node was restarted"}
	case p == nil:
		return &bundle.End{Exit: 255, Unknown: true, Finished: time.Now(), Message: "containerd knows it no more"}
	case p.GetStatus() == task.Status_CREATED:
		return &bundle.End{Exit: 255, Unknown: true, Finished: time.Now(), Message: "it was never started: the agent ended before"}
	case p.GetStatus() != task.Status_STOPPED:
		return nil
	}
	end := &bundle.End{Exit: int(p.GetExitStatus()), Finished: p.GetExitedAt().AsTime()}
	if group, err := cgroup.Open(st.Begun.Cgroups); err == nil { // it stays until the task is deleted
		end.OOM = group.OOMKills() > 0 && end.Exit != 0
		_ = group.Close() // it was only read
	}
	return end
}

// keepAgain starts who keeps the streams of a container that runs without: it was killed.
func (r *Runtime) keepAgain(id string) {
	if r.starting.Begin(id) != nil {
		return
	}
	defer r.starting.End(id)
	if _, err := shim.StartStreams(r.cfg.Shim, filepath.Join(r.cfg.Dir, id)); err != nil {
		r.cfg.Log.Warn("output of a container is not kept", "container", id, agent.KeyErr, err)
		return
	}
	r.cfg.Log.Warn("who kept the streams of a container was killed; they are kept again, what was attached is not", "container", id)
}
