package launch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/workload"
)

// GoneMark begins the name of a container's folder that is being removed.
const GoneMark = ".gone-"

// Folder is that of a container below root; its id may not lead elsewhere.
func Folder(root, id string) (string, error) {
	if _, _, _, ok := workload.ParseContainerID(id); !ok || strings.ContainsAny(id, "/\x00") || id[0] == '.' {
		return "", fmt.Errorf("container id %q; wanted workload_container_run", id)
	}
	return filepath.Join(root, id), nil
}

// Each calls visit with the id of every container that has a folder below root, but for those that skip says are in the making. What is
// left of a removal that was cut off goes. An error of one container does not keep the others from being visited.
func Each(root string, skip func(id string) bool, visit func(id string) error) error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		id := e.Name()
		if strings.HasPrefix(id, GoneMark) { // an agent was killed while it removed it
			errs = append(errs, os.RemoveAll(filepath.Join(root, id)))
		}
		if strings.HasPrefix(id, ".") || !e.IsDir() || skip(id) {
			continue
		}
		if err := visit(id); err != nil && !errors.Is(err, fs.ErrNotExist) { // it may have been removed meanwhile
			errs = append(errs, fmt.Errorf("container %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

// Collect removes images but those in keep and those that containers are made of, running or not.
func Collect(ctx context.Context, images workload.Images, containers workload.Containers, keep []string) (int64, error) {
	all, err := containers.List(ctx)
	if err != nil {
		return 0, err
	}
	keep = slices.Clone(keep)
	for _, o := range all {
		keep = append(keep, o.Image)
	}
	return images.Collect(ctx, keep)
}

// Await asks whether a container has ended, first after pause and then less often, until it has, ctx has, or, unless it is 0, patience is
// over.
func Await(ctx context.Context, pause, patience time.Duration, ended func() (bool, error)) (bool, error) {
	var late <-chan time.Time
	if patience > 0 {
		t := time.NewTimer(patience)
		defer t.Stop()
		late = t.C
	}
	for longest := 40 * pause; ; pause = min(2*pause, longest) {
		if over, err := ended(); err != nil || over {
			return over, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-late:
			return false, nil
		case <-time.After(pause):
		}
	}
}

// Observed is what a container's folder says of it.
func Observed(st *bundle.State) workload.Observed {
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
