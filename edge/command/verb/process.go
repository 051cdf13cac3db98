package verb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
)

// process is a program in a process group of its own, which dies with it.
type process struct {
	argv       []string
	env        []string
	dir        string
	stdin      string
	credential *syscall.Credential
}

// run runs p until it ends by itself or ctx makes it, and returns its exit code, nil when a signal ended it. Whatever
// the program left in its group is killed; what put itself into another session is only cut off from the output.
func (p *process) run(ctx context.Context, stdout, stderr io.Writer) (*int, error) {
	// Pdeathsig is bound to the thread that forked: keep it for as long as the child lives.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(p.argv[0])
	cmd.Args, cmd.Env, cmd.Dir = p.argv, p.env, p.dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.Stdin, cmd.WaitDelay = strings.NewReader(p.stdin), agent.Linger
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: p.credential}
	// Not cmd.Stdout: what a program printed just before its end must get through a slow stream, and exec.Cmd would
	// give up on it after WaitDelay.
	outs, err := outputs(cmd)
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.argv[0], err)
	}
	ended := make(chan struct{})
	var copying, killing sync.WaitGroup
	copying.Go(func() { _ = agent.Drain(stdout, outs[0], ended, agent.PipeBytes) }) // a channel takes all
	copying.Go(func() { _ = agent.Drain(stderr, outs[1], ended, agent.PipeBytes) })
	killing.Go(func() { killGroup(ctx, cmd.Process.Pid, ended) })
	gone := awaitExit(cmd.Process.Pid)
	close(ended)
	killing.Wait()
	// The leader is a zombie still, so its number, and with it that of the group, cannot be anybody else's.
	kill := unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	if errors.Is(kill, unix.ESRCH) || errors.Is(kill, unix.EPERM) {
		kill = nil
	}
	for _, out := range outs {
		kill = errors.Join(kill, agent.Wake(out))
	}
	copying.Wait()
	err = cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return &code, errors.Join(failed(err), gone, kill)
	}
	return nil, errors.Join(failed(err), gone, kill)
}

// outputs prepares the pipes of standard output and error.
func outputs(cmd *exec.Cmd) ([]agent.Pipe, error) {
	var outs []agent.Pipe
	for _, pipe := range []func() (io.ReadCloser, error){cmd.StdoutPipe, cmd.StderrPipe} {
		r, err := pipe()
		if err != nil {
			return nil, err
		}
		out, ok := r.(agent.Pipe)
		if !ok {
			return nil, fmt.Errorf("pipe is %T; wanted one with a read deadline", r)
		}
		outs = append(outs, out)
	}
	return outs, nil
}

// awaitExit waits for pid to end without reaping it.
func awaitExit(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// killGroup ends the group of pid when ctx ends before it does: politely, then not.
func killGroup(ctx context.Context, pid int, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	hard := time.NewTimer(killAfter)
	defer hard.Stop()
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.Kill(-pid, sig); err != nil {
			return // nobody is left
		}
		select {
		case <-ended:
			return
		case <-hard.C:
		}
	}
}

// credentialOf looks name up; empty is the agent's own user.
func credentialOf(name string) (*syscall.Credential, error) {
	if name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("look up user of the allowed program: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s has the id %q; wanted a number", name, u.Uid)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s has the group %q; wanted a number", name, u.Gid)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
