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
		if err != nil {
			return 1, err
		}
		if stopped || code == s.Final {
			return code, nil
		}
		if time.Since(began) >= stable {
			wait = first
		}
		_, _ = fmt.Fprintf(s.Log, "skerry-edge: supervise: the agent ended with %d; starting it again in %s\n", code, wait) // nobody may be listening
		if !agent.Wait(ctx, wait) {
			return code, nil
		}
		wait = min(2*wait, longest)
	}
}

// once is one life of the agent. stopped: a signal said that it was to be the last.
func (s *Supervisor) once(signals <-chan os.Signal) (code int, stopped bool, err error) {
	cmd := exec.Command(s.Argv[0], s.Argv[1:]...)
	cmd.Env = append(os.Environ(), "GOTRACEBACK=crash") // a panic ends with a signal, not with the code of a faulty configuration
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, false, fmt.Errorf("start agent: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			stopped = stopped || sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT
			if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return 0, stopped, fmt.Errorf("pass on signal: %w", err)
			}
		case err := <-done:
			var exit *exec.ExitError
			switch {
			case err == nil:
				return 0, stopped, nil
			case !errors.As(err, &exit):
				return 0, stopped, fmt.Errorf("wait for agent: %w", err)
			case exit.ExitCode() < 0: // a signal
				ws, _ := exit.Sys().(syscall.WaitStatus)
				return 128 + int(ws.Signal()), stopped, nil
			}
			return exit.ExitCode(), stopped, nil
		}
	}
}
