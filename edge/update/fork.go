package update

import (
	"context"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
)

// forkTries is how often a program is started that cannot be just then, a retryWait apart.
const forkTries = 20

// patiently starts a program, again when the device has no process or no memory left for it, or somebody writes to its file: that says
// nothing of the program.
func (l *Launcher) patiently(ctx context.Context, start func() error) error {
	for try := 1; ; try++ {
		err := start()
		if err == nil || !passing(err) || try >= forkTries {
			return err
		}
		if try == 1 {
			l.say("%v; trying again", err)
		}
		if !agent.Wait(ctx, retryWait) {
			return err
		}
	}
}

// passing tells errors of the device from those of a program.
func passing(err error) bool {
	for _, e := range []error{syscall.EAGAIN, syscall.ENOMEM, syscall.ETXTBSY, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// reap takes the ends of children of the program that this process was before.
func reap() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if err != nil || pid <= 0 {
			return
		}
	}
}
