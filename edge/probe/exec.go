package probe

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// execProbe runs a program in a process group of its own, which does not outlive the reading.
type execProbe struct {
	name string
	argv []string
	reading
}

func (p *execProbe) Name() string { return p.name }

func (p *execProbe) Read(ctx context.Context, emit func(string, float64)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := &capped{over: cancel}
	complaint := &tail{most: 256}
	cmd := exec.CommandContext(ctx, p.argv[0], p.argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, complaint
	cmd.Dir = "/"
	// Nothing of the agent's environment: it may hold a join token.
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "LANG=C", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start probe: %w", err)
	}
	awaitExit(cmd.Process.Pid)
	// The leader is not yet reaped, so its number still names this group alone: what it left behind goes with it.
	killErr := killGroup(cmd.Process.Pid)
	err := cmd.Wait()
	switch {
	case out.full:
		return fmt.Errorf("run %s: output exceeds %d bytes", p.argv[0], maxUserOutput)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("run %s: killed, not done within its timeout", p.argv[0])
	case err != nil:
		if said := strings.TrimSpace(complaint.buf.String()); said != "" {
			return fmt.Errorf("run %s: %w: %q", p.argv[0], err, said)
		}
		return fmt.Errorf("run %s: %w", p.argv[0], err)
	case killErr != nil && !errors.Is(killErr, unix.ESRCH):
		return fmt.Errorf("end process group of %s: %w", p.argv[0], killErr)
	}
	return p.output(out.buf, emit)
}

// awaitExit waits until a child has ended and leaves it to be reaped (waitid(2), WNOWAIT).
func awaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return // any other error leaves the waiting to Wait
		}
	}
}

func killGroup(pid int) error { return unix.Kill(-pid, unix.SIGKILL) }
