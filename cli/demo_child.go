package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// child is one process of the demo. stopping is closed before it is asked to end.
type child struct {
	name     string
	cmd      *exec.Cmd
	done     chan struct{}
	stopping chan struct{}
}

// spawn starts a program with its output in NAME.log.
func (s *demoSite) spawn(ctx context.Context, program, name string, args ...string) error {
	log, err := os.Create(filepath.Join(s.dir, name+".log"))
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), s.program(program), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(cmd.Environ(), "SKERRY_CONFIG=")
	// In a group of its own, so that Ctrl-C reaches the demo alone and the parts stop in order; and gone with the demo
	// if that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w; build it first: make build", program, err), log.Close())
	}
	c := &child{name: name, cmd: cmd, done: make(chan struct{}), stopping: make(chan struct{})}
	s.children = append(s.children, c)
	go func() {
		defer close(c.done)
		err := errors.Join(cmd.Wait(), log.Close())
		select {
		case <-c.stopping:
		default:
			s.died <- fmt.Errorf("%s ended: %w%s", name, err, lastLines(log.Name()))
		}
	}()
	return nil
}

// program is the path of a program beside this one, or its name for $PATH.
func (s *demoSite) program(name string) string {
	self, err := os.Executable()
	if err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(beside); err == nil {
			return beside
		}
	}
	return name
}

// lastLines is the end of a log, for an error.
func lastLines(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	return "\n" + string(bytes.Join(lines[max(0, len(lines)-5):], []byte("\n")))
}

// stopWithin is how long a child may take to end when asked to.
const stopWithin = 15 * time.Second

// stop ends the node agents, all at once, then the cluster agent, and waits for them.
func (s *demoSite) stop() error {
	var errs []error
	for i := len(s.children) - 1; i >= 1; i-- {
		errs = append(errs, s.children[i].ask())
	}
	for i := len(s.children) - 1; i >= 0; i-- {
		if i == 0 {
			errs = append(errs, s.children[0].ask())
		}
		errs = append(errs, s.children[i].await())
	}
	return errors.Join(errs...)
}

// ask asks a child to end.
func (c *child) ask() error {
	close(c.stopping)
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", c.name, err)
	}
	return nil
}

// await waits for the end of a child, and makes it when that takes too long.
func (c *child) await() error {
	limit := time.NewTimer(stopWithin)
	defer limit.Stop()
	select {
	case <-c.done:
		return nil
	case <-limit.C:
	}
	err := c.cmd.Process.Kill()
	<-c.done
	return errors.Join(fmt.Errorf("stop %s: still running after %s, killed", c.name, stopWithin), err)
}

// residentBytes reads VmRSS of a process (proc(5)).
func residentBytes(pid int) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("read memory of process %d: no VmRSS", pid)
}
