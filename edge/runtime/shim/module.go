package shim

import (
	"context"
	"errors"
	"io"
	"runtime"
	"syscall"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
)

// stopped is why a module ends before its time.
type stopped struct{ signal syscall.Signal }

func (s *stopped) Error() string { return s.signal.String() }

// startModule runs the container's module in this process.
func (s *supervisor) startModule(ctx context.Context) (<-chan *bundle.End, error) {
	if err := s.group.Add(0); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	s.cancel = cancel
	s.mu.Unlock()
	p := &Program{Spec: s.spec, Stdout: &moduleOutput{s, "stdout"}, Stderr: &moduleOutput{s, "stderr"}}
	if s.spec.Stdin {
		ours, theirs, err := pipe(false)
		if err != nil {
			return nil, err
		}
		p.Stdin = theirs
		s.mu.Lock()
		s.stdin = ours
		s.mu.Unlock()
	}
	running := make(chan error, 1)
	p.Ready = func() error {
		err := s.profile.Process()
		if err == nil {
			running <- nil
		}
		return err
	}
	ended := make(chan *bundle.End, 1)
	go func() {
		runtime.LockOSThread() // for good: Ready confines this thread
		exit, err := s.module(ctx, p)
		end := &bundle.End{Exit: exit}
		var by *stopped
		if errors.As(context.Cause(ctx), &by) {
			end = &bundle.End{Exit: 128 + int(by.signal), Signal: int(by.signal)}
		} else if err != nil {
			end.Message = oneLine(err)
		}
		select {
		case running <- err: // it did not come to its first instruction
		default:
		}
		s.log.end("stdout")
		s.log.end("stderr")
		ended <- end
	}()
	return ended, <-running
}

// moduleOutput is where a module prints.
type moduleOutput struct {
	s      *supervisor
	stream string
}

var _ io.Writer = (*moduleOutput)(nil)

func (o *moduleOutput) Write(p []byte) (int, error) {
	o.s.log.write(o.stream, p)
	o.s.publish(o.stream, p)
	return len(p), nil
}
