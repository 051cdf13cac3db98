package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/cgroup"
	"github.com/skerry-edge/skerry/edge/runtime/launch"
)

// answerTime is how long a supervisor may take to pass a signal on before it is itself killed.
const answerTime = 5 * time.Second

// Stop signals the program, kills everything inside after grace, and waits for the end.
func (r *Runtime) Stop(ctx context.Context, id string, grace time.Duration) error {
	dir, err := r.dir(id)
	if err != nil {
		return err
	}
	st, err := r.inspect(ctx, dir)
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
		err := r.signal(ctx, dir, &bundle.Request{Op: bundle.OpSignal})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			ended, err := r.await(ctx, dir, grace)
			if ended || err != nil {
				return err
			}
		}
	}
	err = r.signal(ctx, dir, &bundle.Request{Op: bundle.OpSignal, Signal: int(unix.SIGKILL), All: true})
	if refused, ok := errors.AsType[*bundle.Refused](err); ok && refused.Ended { // its supervisor is about to write down how
		if ended, err := r.await(ctx, dir, answerTime); ended || err != nil {
			return err
		}
	}
	if err != nil && ctx.Err() == nil {
		if st.Begun == nil { // it is about to begin, and cannot be reached yet
			return fmt.Errorf("container %s is being started; ask again", id)
		}
		if err := st.Begun.Kill(r.boot); err != nil { // the supervisor does not answer; the kernel does it
			return fmt.Errorf("kill supervisor: %w", err)
		}
	}
	_, err = r.await(ctx, dir, 0)
	return err
}

// signal asks the supervisor to pass a signal on; the program's own for stops when the request has none.
func (r *Runtime) signal(ctx context.Context, dir string, q *bundle.Request) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	call, err := bundle.Dial(ctx, dir, q)
	if err != nil {
		return err
	}
	return call.Close()
}

// await returns when the container has ended, ctx has, or, unless it is 0, after patience.
func (r *Runtime) await(ctx context.Context, dir string, patience time.Duration) (ended bool, err error) {
	return launch.Await(ctx, 2500*time.Microsecond, patience, func() (bool, error) {
		st, err := r.inspect(ctx, dir)
		return st.End != nil, err
	})
}

// Remove removes the bundle of a container that has ended.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	dir, err := r.dir(id)
	if err != nil {
		return err
	}
	st, err := r.inspect(ctx, dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.End == nil {
		return fmt.Errorf("container %s runs; wanted one that has ended", id)
	}
	return r.discard(dir)
}

// discard removes a bundle, which is out of sight at once, and its groups.
func (r *Runtime) discard(dir string) error {
	b, err := bundle.Open(dir)
	if err != nil {
		return err
	}
	st, err := b.StateIn(dir)
	if err = errors.Join(err, b.Close()); err != nil {
		return err
	}
	if st.Begun != nil { // its supervisor may still be telling those who are attached
		if err := r.leave(st.Begun); err != nil {
			return err
		}
	}
	gone := filepath.Join(filepath.Dir(dir), launch.GoneMark+filepath.Base(dir))
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	if err := os.Rename(dir, gone); err != nil {
		return err
	}
	err = os.RemoveAll(gone)
	if st.Begun != nil {
		return errors.Join(err, cgroup.Remove(st.Begun.Cgroups))
	}
	tree, terr := cgroup.Find() // it may have got as far as to make them
	return errors.Join(err, terr, cgroup.Remove(tree.Dirs(r.cfg.Cgroup, filepath.Base(dir))))
}

// leave waits a little for a supervisor to end, which has nothing to do any more, and ends it.
func (r *Runtime) leave(begun *bundle.Begun) error {
	for range 100 {
		if !begun.Running(r.boot) {
			return nil
		}
		<-time.After(10 * time.Millisecond)
	}
	return begun.Kill(r.boot)
}
