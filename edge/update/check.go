package update

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"

	"github.com/skerry-edge/skerry/agent"
)

// try starts the new program with commands that end by themselves.
func (i *Installer) try(ctx context.Context, path, version string) error {
	out, _, err := check(ctx, path, "version")
	if err != nil {
		return verdict("does not start on this device", err)
	}
	fields := strings.Fields(out)
	if len(fields) < 2 || fields[0] != programName || strings.TrimPrefix(fields[1], "v") != strings.TrimPrefix(version, "v") {
		return fmt.Errorf("%w says that it is %.80q; wanted %s %s", ErrUnfit, strings.TrimSpace(out), programName, version)
	}
	for _, args := range i.Try {
		if _, told, err := check(ctx, path, args...); err != nil && !i.passes(err) {
			return verdict("cannot "+args[0]+" on this device", fmt.Errorf("%w: %s", err, strings.TrimSpace(told)))
		}
	}
	return nil
}

func (i *Installer) passes(err error) bool {
	exit, ended := errors.AsType[*exec.ExitError](err)
	return ended && i.Passes != 0 && exit.ExitCode() == i.Passes && !errors.Is(err, context.DeadlineExceeded)
}

// verdict says of a program that it is unfit when it is by its own doing: it ended badly, or is of another kind of machine. A device that is too
// busy, or has no memory or process left, says nothing of the program.
func verdict(what string, err error) error {
	_, ended := errors.AsType[*exec.ExitError](err)
	if ended && !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ENOEXEC) {
		return fmt.Errorf("%w %s: %w", ErrUnfit, what, err)
	}
	return fmt.Errorf("check of the new program: it %s: %w", what, err)
}

// check runs a program to its end. One that somebody else killed says nothing of the program, and is run again: by hand, or by the kernel
// for want of memory. A program that is killed each time is taken at that.
func check(ctx context.Context, path string, args ...string) (out, told string, err error) {
	for run := 1; ; run++ {
		var stdout, stderr strings.Builder
		within, cancel := context.WithTimeout(ctx, tryWithin)
		cmd := exec.CommandContext(within, path, args...)
		cmd.Stdout, cmd.Stderr = &limited{&stdout, 400}, &limited{&stderr, 400}
		err := cmd.Run()
		if within.Err() != nil {
			err = errors.Join(err, within.Err())
		}
		killed := within.Err() == nil && endedBy(err) == syscall.SIGKILL
		cancel()
		if !killed || run >= maxStarts || !agent.Wait(ctx, retryWait) {
			return stdout.String(), stderr.String(), err
		}
	}
}

// endedBy is the signal that ended a process; 0: none did.
func endedBy(err error) syscall.Signal {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return ws.Signal()
		}
	}
	return 0
}

// limited keeps the beginning of what is written.
type limited struct {
	*strings.Builder
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	n := min(len(b), l.left)
	l.left -= n
	l.Builder.Write(b[:n])
	return len(b), nil
}
