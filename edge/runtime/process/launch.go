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
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
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
	r.mu.Lock()
	busy := r.starting[c.ID]
	r.starting[c.ID] = true
	r.mu.Unlock()
	if busy {
		return fmt.Errorf("container %s is being started", c.ID)
	}
	defer func() {
		r.mu.Lock()
		delete(r.starting, c.ID)
		r.mu.Unlock()
	}()
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
	cmd.Env = shimEnvironment(spec.Kind)
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
func shimEnvironment(kind string) []string {
	env := []string{"GOTRACEBACK=single"}
	if kind == bundle.KindWasm {
		return env
	}
	return append(env, "GOMAXPROCS=1", "GOGC=20")
}

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
func (r *Runtime) specOf(c *workload.Container, image *Image) (*bundle.Spec, error) {
	s := &bundle.Spec{
		Record: bundle.Record{ID: c.ID, Workload: c.Workload, Kind: r.cfg.Kind, Image: c.Image, Created: time.Now()},
		Lower:  image.Lower, Dir: c.Dir, User: image.Config.User, Security: c.Security, Limits: c.Limits, Processes: r.cfg.Processes,
		Hostname: c.Hostname, TTY: c.TTY, Stdin: c.Stdin, Log: c.Log, LogBytes: c.LogBytes, Cgroup: r.cfg.Cgroup, Wall: r.cfg.Wall,
	}
	if len(s.Lower) == 0 {
		return nil, fmt.Errorf("image %s has no layers: %w", c.Image, workload.ErrBadImage)
	}
	s.Argv = command(c, &image.Config)
	if s.Dir == "" {
		s.Dir = image.Config.WorkingDir
	}
	if s.Dir != "" && !filepath.IsAbs(s.Dir) {
		return nil, fmt.Errorf("working directory %q: wanted an absolute path", s.Dir)
	}
	s.Env = merge(image.Config.Env, c.Env)
	var err error
	if s.StopSignal, err = signalNumber(image.Config.StopSignal); err != nil {
		return nil, err
	}
	for _, m := range c.Mounts {
		if !filepath.IsAbs(m.Source) || !filepath.IsAbs(m.Target) || filepath.Clean(m.Target) == "/" {
			return nil, fmt.Errorf("mount %q at %q: wanted absolute paths, and not the root", m.Source, m.Target)
		}
		s.Mounts = append(s.Mounts, bundle.Mount{Source: m.Source, Within: m.Within, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	if r.cfg.Kind == bundle.KindProcess {
		s.Mounts = append(network(s.Mounts), s.Mounts...)
	}
	return s, nil
}

// command is what is run: a command of the workload's own leaves nothing of the image's, arguments replace its arguments.
func command(c *workload.Container, image *ImageConfig) []string {
	argv, args := c.Command, c.Args
	if len(argv) == 0 {
		argv = image.Entrypoint
		if len(args) == 0 {
			args = image.Cmd
		}
	}
	return append(argv[:len(argv):len(argv)], args...)
}

// merge puts own over those of the image; the last of a name wins.
func merge(image, own []string) []string {
	var out []string
	at := map[string]int{}
	for _, list := range [][]string{image, own} {
		for _, e := range list {
			name, _, ok := strings.Cut(e, "=")
			if !ok || name == "" {
				continue
			}
			if i, seen := at[name]; seen {
				out[i] = e
				continue
			}
			at[name] = len(out)
			out = append(out, e)
		}
	}
	return out
}

// network are the node's files on names, which belong to the network that the container shares, unless it has its own.
func network(own []bundle.Mount) []bundle.Mount {
	var out []bundle.Mount
files:
	for _, name := range []string{"/etc/resolv.conf", "/etc/hosts"} {
		for _, m := range own {
			if target := filepath.Clean(m.Target); target == name || target == "/etc" {
				continue files
			}
		}
		if _, err := os.Stat(name); err == nil {
			out = append(out, bundle.Mount{Source: name, Target: name, ReadOnly: true})
		}
	}
	return out
}

// signalNumber reads the signal of an image: SIGTERM, TERM or 15; empty is SIGTERM.
func signalNumber(name string) (int, error) {
	if name == "" {
		return int(unix.SIGTERM), nil
	}
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n <= 64 {
		return n, nil
	}
	full := strings.ToUpper(name)
	if !strings.HasPrefix(full, "SIG") {
		full = "SIG" + full
	}
	if n := unix.SignalNum(full); n > 0 {
		return int(n), nil
	}
	return 0, fmt.Errorf("the image's stop signal %q; wanted such as SIGTERM or 15: %w", name, workload.ErrBadImage)
}
