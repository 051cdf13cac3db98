package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// startFailed is the exit code of an agent that could not be started, as shells have it.
const startFailed = 126

// Supervisor is the restart loop of a device that has none. It knows nothing of slots: what it starts is a launcher.
type Supervisor struct {
	Argv []string // of the agent: program, run, flags
	// Final is the exit code after which no restart helps.
	Final int
	Log   io.Writer
	// First and Longest bound the wait between two starts; an agent that ran for Stable begins at First again. 0: 1 s, 5 min, 1 min.
	First, Longest, Stable time.Duration
}

// Run starts the agent, passes signals on to it, and starts it again when it ends, until a signal said that it is to end. It returns
// the exit code. Under a service manager it replaces itself by the agent: the manager does the same, and costs nothing.
func (s *Supervisor) Run(ctx context.Context) (int, error) {
	if os.Getenv("NOTIFY_SOCKET") != "" {
		return 1, fmt.Errorf("start agent: %w", syscall.Exec(s.Argv[0], s.Argv, os.Environ()))
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT)
	defer signal.Stop(signals)
	first, longest, stable := s.First, s.Longest, s.Stable
	if first == 0 {
		first, longest, stable = time.Second, 5*time.Minute, time.Minute
	}
	wait := first
	for {
		began := time.Now()
		code, stopped, err := s.once(signals)
		if stopped || code == s.Final {
			return code, nil
		}
		if err != nil { // the program may be being replaced, or the device have no process left
			s.say("%v", err)
		}
		if time.Since(began) >= stable {
			wait = first
		}
		s.say("the agent ended with %d; starting it again in %s", code, wait)
		if !agent.Wait(ctx, wait) {
			return code, nil
		}
		wait = min(2*wait, longest)
	}
}

func (s *Supervisor) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.Log, "skerry-edge: supervise: "+format+"\n", args...) // nobody may be listening
}

// once is one life of the agent. stopped: a signal said that it was to be the last. A start that fails is one that ended at once.
func (s *Supervisor) once(signals <-chan os.Signal) (code int, stopped bool, err error) {
	cmd := exec.Command(s.Argv[0], s.Argv[1:]...)
	cmd.Env = append(os.Environ(), "GOTRACEBACK=crash") // a panic ends with a signal, not with the code of a faulty configuration
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return startFailed, false, fmt.Errorf("start agent: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			stopped = stopped || sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT
			if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
				s.say("pass on signal: %v", err)
			}
		case err := <-done:
			var exit *exec.ExitError
			switch {
			case err == nil:
				return 0, stopped, nil
			case !errors.As(err, &exit):
				return startFailed, stopped, fmt.Errorf("wait for agent: %w", err)
			case exit.ExitCode() < 0: // a signal
				ws, _ := exit.Sys().(syscall.WaitStatus)
				return 128 + int(ws.Signal()), stopped, nil
			}
			return exit.ExitCode(), stopped, nil
		}
	}
}
