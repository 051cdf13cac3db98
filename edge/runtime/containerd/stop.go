//go:build !lite

package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/cgroup"
	"github.com/skerry-edge/skerry/edge/runtime/launch"
	"github.com/skerry-edge/skerry/edge/runtime/shim"
)

// Stop signals the program, kills everything inside after grace, and waits for the end.
func (r *Runtime) Stop(ctx context.Context, id string, grace time.Duration) error {
	dir, err := r.dir(id)
	if err != nil {
		return err
	}
	st, err := r.inspect(ctx, id)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil || st.End != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if grace > 0 {
		if err := r.signal(ctx, id, stopSignal(dir), false); err != nil {
			return err
		}
		if ended, err := r.await(ctx, id, grace); ended || err != nil {
			return err
		}
	}
	if err := r.signal(ctx, id, uint32(unix.SIGKILL), true); err != nil {
		return err
	}
	_, err = r.await(ctx, id, 0)
	return err
}

// stopSignal is that of the image.
func stopSignal(dir string) uint32 {
	var cfg shim.Streams
	raw, err := os.ReadFile(filepath.Join(dir, shim.StreamsFile))
	if err != nil || json.Unmarshal(raw, &cfg) != nil || cfg.Stop <= 0 {
		return uint32(unix.SIGTERM)
	}
	return uint32(cfg.Stop)
}

// signal sends one to the program, or to all that is inside; one that has ended is no error.
func (r *Runtime) signal(ctx context.Context, id string, sig uint32, all bool) error {
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, err := r.client.tasks.Kill(call, &tasks.KillRequest{ContainerID: r.called(id), Signal: sig, All: all})
	if over(err) {
		return nil
	}
	return plain(ctx, "signal", err)
}

// await returns when the container has ended, ctx has, or, unless it is 0, after patience.
func (r *Runtime) await(ctx context.Context, id string, patience time.Duration) (ended bool, err error) {
	return launch.Await(ctx, 5*time.Millisecond, patience, func() (bool, error) {
		st, err := r.inspect(ctx, id)
		return st.End != nil, err
	})
}

// Remove forgets a container that has ended.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	dir, err := r.dir(id)
	if err != nil {
		return err
	}
	st, err := r.inspect(ctx, id)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.End == nil {
		return fmt.Errorf("container %s runs; wanted one that has ended", id)
	}
	return r.discard(ctx, dir, id)
}

// discard takes a container from containerd, ends who keeps its streams, and removes its folder, which is out of sight at once.
func (r *Runtime) discard(ctx context.Context, dir, id string) error {
	if err := r.forget(ctx, id); err != nil {
		return err
	}
	ask, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if call, err := bundle.Dial(ask, dir, &bundle.Request{Op: bundle.OpSignal}); err == nil { // most have ended with the output
		_ = call.Close() // it has its answer
	}
	gone := filepath.Join(filepath.Dir(dir), launch.GoneMark+filepath.Base(dir))
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	if err := os.Rename(dir, gone); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(gone), cgroup.Remove(r.tree.Dirs(r.cfg.Cgroup, r.called(id))))
}

// forget has containerd end and forget what it has of a container; nil when it has nothing.
func (r *Runtime) forget(ctx context.Context, id string) error {
	p, err := r.task(ctx, id)
	if err != nil {
		return err
	}
	if p != nil {
		if err := r.signal(ctx, id, uint32(unix.SIGKILL), true); err != nil {
			return err
		}
		if err := r.delete(ctx, id); err != nil {
			return err
		}
	}
	_, err = r.client.containers.Delete(ctx, &containers.DeleteContainerRequest{ID: r.called(id)})
	if absent(err) {
		return nil
	}
	return plain(ctx, "delete container", err)
}

// delete deletes a task that ends, once it has.
func (r *Runtime) delete(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	for {
		_, err := r.client.tasks.Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: r.called(id)})
		if err == nil || absent(err) {
			return nil
		}
		if !over(err) {
			return plain(ctx, "delete task", err)
		}
		select {
		case <-ctx.Done():
			return plain(ctx, "delete task", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
