// Package system proves claims on the shipped binaries: agents as child processes, killed and restarted as the field
// kills and restarts them.
package system

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Process is one agent that can be killed and started again with the same arguments; its output is appended to a log.
// Not safe for concurrent use.
type Process struct {
	Name    string
	Log     string // path
	Program string // path
	Args    []string
	Env     []string // added to this process's own

	cmd  *exec.Cmd
	done chan error
}

// Program is the path of a program that `make build` made.
func Program(name string) (string, error) {
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", name))
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find %s: %w; run make build bin/nats-server", name, err)
	}
	return path, nil
}

// Start starts the process.
func (p *Process) Start() error {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	cmd := exec.Command(p.Program, p.Args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(cmd.Environ(), p.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", p.Name, err), log.Close())
	}
	done := make(chan error, 1)
	p.cmd, p.done = cmd, done
	go func() { done <- errors.Join(cmd.Wait(), log.Close()) }()
	return nil
}

// Kill kills the process as a power cut would, its children too, and waits for its end.
func (p *Process) Kill() error {
	if p.cmd == nil {
		return nil
	}
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill %s: %w", p.Name, err)
	}
	<-p.done // "signal: killed", or how it had ended before
	p.cmd = nil
	return nil
}

// Signal sends sig to the process alone.
func (p *Process) Signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Stop asks the process to end and waits at most limit for it.
func (p *Process) Stop(limit time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-p.done:
		p.cmd = nil
		return err
	case <-timer.C:
		return errors.Join(fmt.Errorf("stop %s: still running after %s", p.Name, limit), p.Kill())
	}
}
