package kube

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// process is one program of the control plane; it can be ended and started again with the same arguments, and its output
// is appended to a log. It dies with the process that started it, however that ends. Not safe for concurrent use.
type process struct {
	name    string
	program string // path
	args    []string
	log     string // path

	cmd   *exec.Cmd
	ended chan struct{} // closed after err is set
	err   error
}

func (p *process) start() error {
	if p.cmd != nil {
		return fmt.Errorf("start %s: it has been started and not ended", p.name)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	cmd := exec.Command(p.program, p.args...)
	cmd.Dir = filepath.Dir(p.log)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread() // prctl(2): the death of the parent is that of the thread that forked
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		p.err = errors.Join(p.err, log.Close())
		close(ended)
	}()
	if err := <-started; err != nil {
		<-ended
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.ended = cmd, ended
	return nil
}

// end sends sig and waits at most limit, then kills. A process that runs no more, or never did, has ended.
func (p *process) end(sig syscall.Signal, limit time.Duration) error {
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", p.name, err)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill %s: %w", p.name, err)
		}
		<-p.ended
	}
	p.cmd = nil
	return nil
}

// gone tells of a process that should run and does not.
func (p *process) gone() error {
	if p.cmd == nil {
		return nil
	}
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended by itself: %w\n%s", p.name, errors.Join(p.err, errors.New("see its log")), p.tail(20))
	default:
		return nil
	}
}

// tail returns the last lines of the log.
func (p *process) tail(lines int) string {
	raw, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
