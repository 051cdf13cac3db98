package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/launch"
	"github.com/skerry-edge/skerry/edge/runtime/shim"
	"github.com/skerry-edge/skerry/edge/workload"
)

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
	spec, err := r.specOf(&c, &image)
	if err != nil {
		return err
	}
	if err := r.starting.Begin(c.ID); err != nil {
		return err
	}
	defer r.starting.End(c.ID)
	running, err := r.clear(ctx, dir)
	if err != nil || running {
		return err
	}
	if err := bundle.Create(dir, &spec.Record); err != nil {
		return fmt.Errorf("make folder of container %s: %w", c.ID, err)
	}
	if err := r.launch(ctx, dir, spec); err != nil {
		return errors.Join(err, r.discard(dir))
	}
	return nil
}

// clear makes way for a container of the same ID that was never begun; running means that it lives.
func (r *Runtime) clear(ctx context.Context, dir string) (running bool, err error) {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	st, err := r.inspect(ctx, dir)
	if err != nil {
		return false, err
	}
	if st.End == nil {
		return true, nil
	}
	if st.Begun != nil {
		return false, fmt.Errorf("container %s has run; wanted an ID that has not", st.Record.ID)
	}
	return false, r.discard(dir)
}

// launch starts the supervisor and waits for its word. It is a session and a set of namespaces of its own, and lives on
// whatever becomes of this process. When ctx ends first it is killed.
func (r *Runtime) launch(ctx context.Context, dir string, spec *bundle.Spec) error {
	raw, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	theirs, said, err := os.Pipe()
	if err != nil {
		return err
	}
	errFile, err := os.OpenFile(filepath.Join(dir, bundle.ErrorFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return errors.Join(err, theirs.Close(), said.Close())
	}
	cmd := exec.Command(r.cfg.Shim[0], append(r.cfg.Shim[1:len(r.cfg.Shim):len(r.cfg.Shim)], dir)...) // no context: it outlives us
	cmd.Dir = "/"
	cmd.Env = shimEnvironment
	cmd.Stdin = bytes.NewReader(raw)
	cmd.Stderr = errFile
	cmd.ExtraFiles = []*os.File{said}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS}
	err = cmd.Start()
	if err := errors.Join(err, said.Close(), errFile.Close()); err != nil {
		return errors.Join(fmt.Errorf("start supervisor: %w", err), theirs.Close())
	}
	gone := r.watchChild(cmd, spec.ID)
	answer := make(chan error, 1)
	go func() { answer <- hear(theirs) }()
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = errors.Join(fmt.Errorf("start container %s: %w", spec.ID, ctx.Err()), cmd.Process.Kill())
		<-answer
	}
	if err != nil {
		<-gone // what it holds is free then
	}
	return errors.Join(err, theirs.Close())
}

// hear waits for the supervisor's word.
func hear(from io.Reader) error {
	raw, err := io.ReadAll(io.LimitReader(from, 64<<10))
	if err != nil {
		return fmt.Errorf("hear from supervisor: %w", err)
	}
	var said shim.Ready
	if err := json.Unmarshal(raw, &said); err != nil {
		return errors.New("the supervisor ended before the container was started")
	}
	if said.Error != "" {
		return errors.New(said.Error)
	}
	return nil
}

// shimEnvironment keeps a supervisor small: it has nothing to compute.
var shimEnvironment = []string{"GOTRACEBACK=single", "GOMAXPROCS=1", "GOGC=20"}

// watchChild collects a supervisor that this process started, and tells of its end.
func (r *Runtime) watchChild(cmd *exec.Cmd, id string) (gone <-chan struct{}) {
	done := make(chan struct{})
	r.mu.Lock()
	r.watched[id] = true
	r.mu.Unlock()
	go func() { // not joined: it outlives us
		_ = cmd.Wait() // how the container ended is in its bundle
		r.mu.Lock()
		delete(r.watched, id)
		r.mu.Unlock()
		close(done)
		r.changed()
	}()
	return done
}

// specOf joins what is wanted with what the image says.
func (r *Runtime) specOf(c *workload.Container, image *launch.Image) (*bundle.Spec, error) {
	wasm := r.cfg.Kind == bundle.KindWasm
	if err := launch.Check(c, image, wasm); err != nil {
		return nil, err
	}
	s := &bundle.Spec{
		Record: bundle.Record{ID: c.ID, Workload: c.Workload, Kind: r.cfg.Kind, Image: c.Image, Created: time.Now()},
		Lower:  image.Lower, Argv: launch.Command(c, &image.Config), Env: launch.Environment(image.Config.Env, c.Env), Dir: launch.Dir(c, &image.Config),
		User: image.Config.User, Security: c.Security, Limits: c.Limits, Requests: c.Requests, Processes: r.cfg.Processes,
		Hostname: c.Hostname, TTY: c.TTY, Stdin: c.Stdin, Log: c.Log, LogBytes: c.LogBytes, Cgroup: r.cfg.Cgroup, Wall: r.cfg.Wall,
	}
	var err error
	if s.StopSignal, err = launch.StopSignal(image.Config.StopSignal); err != nil {
		return nil, err
	}
	mounts := c.Mounts
	if !wasm {
		mounts = append(launch.Network(mounts), mounts...)
	}
	for _, m := range mounts {
		s.Mounts = append(s.Mounts, bundle.Mount{Source: m.Source, Within: m.Within, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	return s, nil
}
