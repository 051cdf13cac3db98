// Package k3s runs k3s agent, an installed program, as a part of the node agent: from a join to a leave, also over restarts of both.
package k3s

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// Config of an Agent. All fields but Args are set.
type Config struct {
	Program string   // absolute
	Args    []string // further arguments of k3s agent
	Data    string   // k3s's --data-dir
	Dir     string   // where the token and the state are kept
	Log     *slog.Logger
	// Proof is how long k3s has to run until a join has succeeded, and Grace how long it has to stop.
	Proof, Grace time.Duration
}

// Agent is k3s agent, running or not. Safe for concurrent use; Run is called once.
type Agent struct {
	cfg Config

	mu     sync.Mutex
	joined *membership // nil: not a member
	change chan struct{}
	idle   chan struct{} // closed while no k3s runs that is not wanted
}

// membership is what is kept on disk beside the token.
type membership struct {
	Server string `json:"server"`
	Name   string `json:"name"`

	failed chan error // takes why k3s ended first; nil after a restart
}

const (
	stateFile = "join.json"
	tokenFile = "token"
)

// New reads what was joined before.
func New(cfg Config) (*Agent, error) {
	a := &Agent{cfg: cfg, change: make(chan struct{}, 1), idle: make(chan struct{})}
	raw, err := os.ReadFile(filepath.Join(cfg.Dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	var m membership
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil { // the node has to come up all the same, to be joined anew
		path := filepath.Join(cfg.Dir, stateFile)
		cfg.Log.Error("what k3s was joined to is not known: join it again", agent.KeyErr, errors.Join(err, os.Rename(path, path+".damaged")))
		return a, nil
	}
	a.joined = &m
	return a, nil
}

// Run runs k3s for as long as the machine is a member, and stops it when ctx ends. Its containers go on meanwhile, as k3s has it.
func (a *Agent) Run(ctx context.Context) error {
	wait := agent.Backoff{Min: time.Second, Max: time.Minute}
	for ctx.Err() == nil {
		a.mu.Lock()
		m := a.joined
		a.mu.Unlock()
		if m == nil {
			close(a.idle)
			select {
			case <-ctx.Done():
			case <-a.change:
			}
			a.mu.Lock()
			a.idle = make(chan struct{})
			a.mu.Unlock()
			wait.Reset()
			continue
		}
		began := time.Now()
		err := a.once(ctx, m)
		if ctx.Err() != nil || a.member() != m {
			wait.Reset()
			continue
		}
		if time.Since(began) > time.Minute {
			wait.Reset()
		}
		select {
		case m.failed <- err:
		default:
		}
		pause := wait.Next()
		a.cfg.Log.Warn("k3s agent ended", agent.KeyErr, err, agent.KeyWait, agent.Brief(pause).String())
		select {
		case <-ctx.Done():
		case <-a.change:
		case <-time.After(pause):
		}
	}
	return nil
}

func (a *Agent) member() *membership {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.joined
}

// once runs k3s until it ends, or is not wanted any more.
func (a *Agent) once(ctx context.Context, m *membership) error {
	args := append([]string{"agent", "--server", m.Server, "--token-file", filepath.Join(a.cfg.Dir, tokenFile), "--node-name", m.Name,
		"--data-dir", a.cfg.Data, "--node-label", Label}, a.cfg.Args...)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	runtime.LockOSThread() // Pdeathsig is bound to it: k3s must not outlive an agent that is killed, or there will be two
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, a.cfg.Program, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/root"}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = a.cfg.Grace
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	last := &lastLine{}
	cmd.Stdout, cmd.Stderr = last, last
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start k3s agent: %w", err)
	}
	a.cfg.Log.Info("k3s agent runs", agent.KeyURL, m.Server)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case err := <-done:
			if err == nil {
				err = errors.New("it ended by itself")
			}
			return fmt.Errorf("k3s agent: %w: %s", err, last)
		case <-a.change:
			if a.member() != m {
				cancel()
				return <-done
			}
		}
	}
}

// lastLine keeps the end of what k3s prints. k3s prints no token.
type lastLine struct {
	mu   sync.Mutex
	text []byte
}

func (l *lastLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	l.text = l.text[max(0, len(l.text)-1024):]
	return len(p), nil
}

func (l *lastLine) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(l.text), []byte("\n"))
	return string(lines[len(lines)-1])
}

// Label marks the Node of a machine that was joined so: the cluster agent deletes no other.
const Label = "mlsysops.eu/joined-by=skerry"

// Join makes the machine a member and returns when k3s has run for a while. When it ends before, nothing is joined.
func (a *Agent) Join(ctx context.Context, server, name, token string) error {
	if _, err := exec.LookPath(a.cfg.Program); err != nil {
		return fmt.Errorf("k3s is not installed: %w", err)
	}
	if err := a.foreign(); err != nil {
		return err
	}
	if err := a.Leave(ctx); err != nil { // what was joined before
		return err
	}
	m := &membership{Server: server, Name: name, failed: make(chan error, 1)}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(a.cfg.Dir, 0o700), write(filepath.Join(a.cfg.Dir, tokenFile), []byte(token)),
		write(filepath.Join(a.cfg.Dir, stateFile), raw)); err != nil {
		return fmt.Errorf("keep what was joined: %w", err)
	}
	a.set(m)
	proof := time.NewTimer(a.cfg.Proof)
	defer proof.Stop()
	select {
	case <-proof.C:
		return nil
	case err = <-m.failed:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.Grace+time.Second)
	defer cancel()
	return errors.Join(err, a.Leave(undo))
}

// foreign is an error when k3s has a membership that was not made here.
func (a *Agent) foreign() error {
	own := a.member() != nil
	for _, name := range []string{stateFile, stateFile + ".damaged"} {
		_, err := os.Stat(filepath.Join(a.cfg.Dir, name))
		own = own || err == nil
	}
	credential := filepath.Join(a.cfg.Data, "agent", "client-kubelet.crt")
	if _, err := os.Stat(credential); own || err != nil {
		return nil
	}
	return fmt.Errorf("k3s is a member of a cluster already, and not by this agent: %s is there; wanted a k3s that has joined nothing", credential)
}

func (a *Agent) set(m *membership) {
	a.mu.Lock()
	a.joined = m
	a.mu.Unlock()
	select {
	case a.change <- struct{}{}:
	default:
	}
}

// Leave stops k3s and removes the token, the state, and what k3s would go back to its server with. Containers that k3s has started are
// k3s-killall.sh's to end.
func (a *Agent) Leave(ctx context.Context) error {
	if a.foreign() != nil {
		return nil // what somebody else joined is not ours to end
	}
	if a.member() != nil {
		a.set(nil)
	}
	a.mu.Lock()
	idle := a.idle
	a.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
		return fmt.Errorf("stop k3s agent: %w", context.Cause(ctx))
	}
	files := []string{filepath.Join(a.cfg.Dir, tokenFile), filepath.Join(a.cfg.Dir, stateFile)}
	for _, pattern := range []string{"*.crt", "*.key", "*.kubeconfig"} {
		found, err := filepath.Glob(filepath.Join(a.cfg.Data, "agent", pattern))
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	var errs []error
	for _, f := range files {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// write replaces a file as a whole; nobody else may read it at any moment.
func write(path string, data []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close(), os.Rename(path+".new", path))
}
