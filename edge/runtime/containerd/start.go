//go:build !lite

package containerd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/launch"
	"github.com/skerry-edge/skerry/edge/runtime/shim"
	"github.com/skerry-edge/skerry/edge/workload"
)

// runc is containerd's own runtime, in all its versions since 1.3.
const runc = "io.containerd.runc.v2"

// The types of what we describe in JSON.
const (
	specType    = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
	processType = "types.containerd.io/opencontainers/runtime-spec/1/Process"
)

// labelID is the label of a container that has its ID, of which containerd's own is made: containerd takes no more than 76
// characters.
const labelID = "skerry.id"

// called is a container's name in containerd, which other agents may use too: no two have the same control groups.
func (r *Runtime) called(id string) string {
	sum := sha256.Sum256([]byte(r.cfg.Cgroup + "/" + id))
	return "c" + hex.EncodeToString(sum[:16])
}

// Start starts a container; its ID runs at most once, whoever is killed when.
func (r *Runtime) Start(ctx context.Context, c workload.Container) error {
	dir, err := r.dir(c.ID)
	if err != nil {
		return err
	}
	image, err := r.cfg.Images.Root(c.Image)
	if err != nil {
		return fmt.Errorf("image %s: %w", c.Image, err)
	}
	if err := launch.Check(&c, &image, false); err != nil {
		return err
	}
	if err := r.starting.Begin(c.ID); err != nil {
		return err
	}
	defer r.starting.End(c.ID)
	running, err := r.clear(ctx, dir, c.ID)
	if err != nil || running {
		return err
	}
	record := bundle.Record{ID: c.ID, Workload: c.Workload, Kind: Kind, Image: c.Image, Created: time.Now()}
	if err := bundle.Create(dir, &record); err != nil {
		return fmt.Errorf("make folder of container %s: %w", c.ID, err)
	}
	if err := r.launch(ctx, dir, &c, &image); err != nil {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
		defer cancel()
		return errors.Join(err, r.discard(cleanup, dir, c.ID))
	}
	return nil
}

// clear makes way for a container of the same ID that was never begun; running means that it lives.
func (r *Runtime) clear(ctx context.Context, dir, id string) (running bool, err error) {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return false, r.forget(ctx, id) // what containerd may have of it is of another folder, or of before a crash
	}
	st, err := r.inspect(ctx, id)
	if err != nil {
		return false, err
	}
	if st.End == nil {
		return true, nil
	}
	if st.Begun != nil {
		return false, fmt.Errorf("container %s has run; wanted an ID that has not", id)
	}
	return false, r.discard(ctx, dir, id)
}

func (r *Runtime) launch(ctx context.Context, dir string, c *workload.Container, image *launch.Image) error {
	made, err := r.spec(c, image)
	if err != nil {
		return err
	}
	defer made.close()
	raw, err := json.Marshal(made.spec)
	if err != nil {
		return err
	}
	if err := r.openStreams(dir, c, &image.Config); err != nil {
		return err
	}
	_, err = r.client.containers.Create(ctx, &containers.CreateContainerRequest{Container: &containers.Container{ID: r.called(c.ID),
		Labels: map[string]string{labelID: c.ID, "skerry.workload": c.Workload}, Runtime: &containers.Container_Runtime{Name: runc},
		Spec: &anypb.Any{TypeUrl: specType, Value: raw}}})
	if err != nil {
		return plain(ctx, "create container", err)
	}
	begun := bundle.Begun{Boot: r.boot, Started: time.Now(), Cgroups: r.tree.Dirs(r.cfg.Cgroup, r.called(c.ID))}
	task, err := r.client.tasks.Create(ctx, r.taskOf(dir, c, image))
	if err != nil {
		return plain(ctx, "make container", err)
	}
	begun.Pid = int(task.GetPid())
	if begun.Start, err = bundle.StartOf(begun.Pid); err != nil {
		return fmt.Errorf("look at process %d of the container: %w", begun.Pid, err)
	}
	if err := made.verify(begun.Pid); err != nil {
		return err
	}
	b, err := bundle.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(b.Begin(&begun), b.Close()); err != nil {
		return err
	}
	if _, err := r.client.tasks.Start(ctx, &tasks.StartRequest{ContainerID: r.called(c.ID)}); err != nil {
		return plain(ctx, "start container", err)
	}
	return nil
}

// taskOf is what is asked of containerd's shim: the image's root under a layer of the container's own, and where its streams go.
func (r *Runtime) taskOf(dir string, c *workload.Container, image *launch.Image) *tasks.CreateTaskRequest {
	lower := ""
	for i, l := range image.Lower {
		if i > 0 {
			lower += ":"
		}
		lower += l
	}
	t := &tasks.CreateTaskRequest{ContainerID: r.called(c.ID), Terminal: c.TTY, Stdout: filepath.Join(dir, "stdout"), Rootfs: []*types.Mount{{Type: "overlay", Source: "overlay",
		Options: []string{"lowerdir=" + lower, "upperdir=" + filepath.Join(dir, bundle.UpperDir), "workdir=" + filepath.Join(dir, bundle.WorkDir), "nodev"}}}}
	if !c.TTY {
		t.Stderr = filepath.Join(dir, "stderr")
	}
	if c.Stdin {
		t.Stdin = filepath.Join(dir, "stdin")
	}
	return t
}

// openStreams makes the pipes of a container, and starts who keeps their other ends.
func (r *Runtime) openStreams(dir string, c *workload.Container, image *launch.ImageConfig) error {
	stop, err := launch.StopSignal(image.StopSignal)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(&shim.Streams{Stop: stop, Log: c.Log, LogBytes: c.LogBytes, TTY: c.TTY, Stdin: c.Stdin, Cgroup: r.cfg.Cgroup})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, shim.StreamsFile), raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("streams: %w", err)
	}
	for _, stream := range []string{"stdin", "stdout", "stderr"} {
		if err := unix.Mkfifo(filepath.Join(dir, stream), 0o600); err != nil {
			return fmt.Errorf("make pipe %s: %w", stream, err)
		}
	}
	_, err = shim.StartStreams(r.cfg.Shim, dir)
	return err
}
