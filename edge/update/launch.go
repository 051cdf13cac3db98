package update

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
)

// The variables of the contract with programs in slots.
const (
	envSlot     = "SKERRY_SLOT"     // a or b: this program was launched from there
	envLauncher = "SKERRY_LAUNCHER" // path of the installed program
	envLock     = "SKERRY_LOCK"     // number of the file that holds the lock of the agent that runs
	envTrial    = "SKERRY_TRIAL"    // 1: the launcher is the parent, and waits for this trial to be settled
)

// Launched reports whether this process was started by a launcher: it is the agent, and launches nothing.
func Launched() bool { return os.Getenv(envSlot) != "" }

// Launcher starts the program that is due. It is the installed program, before it becomes an agent.
type Launcher struct {
	Dir   *Dir
	Self  string   // path of the installed program
	Build string   // which build that is
	Argv  []string // of this process; a program in a slot gets the same
	Log   io.Writer

	Boot    string // id of this boot of the device; empty: unknown, and starts are not counted
	Environ []string
	lock    *os.File // of the agent that runs
	// Kill is how long after the window a trial that has not settled itself is killed; 0: 30 s.
	Margin time.Duration
	exec   func(path string, argv, env []string) error // tests set it; nil: execve(2)
}

const (
	defaultMargin = 30 * time.Second
	stopWait      = 20 * time.Second // of a trial that is told to end
	retryWait     = time.Second      // between two starts of a trial
)

// Run starts the program that is due in the place of this process, and then does not return. When that is the installed program
// itself it returns what that is of the slots, for the agent to go on. After a signal that ends a trial, Self is nil and so is the error.
func (l *Launcher) Run(ctx context.Context) (*Self, error) {
	reap()
	lock, err := l.Dir.holdRun(ctx, func() { l.say("another agent%s runs on %s; waiting for its end", l.Dir.holder(), l.Dir.path) })
	if err != nil {
		if ctx.Err() != nil {
			err = nil
		}
		return nil, err
	}
	l.lock = lock
	unfit := map[Slot]error{}
	for {
		s, slot, err := l.due(unfit)
		if err != nil { // the disk may be full, or lost: a trial waits, and what is active runs all the same
			l.say("state not kept: %v", err)
			s, slot = l.spare(unfit)
		}
		switch {
		case slot == Installed:
			return &Self{dir: l.Dir, lock: lock, build: l.Build}, nil
		case s.Trial != nil:
			over, err := l.try(ctx, &s)
			if err != nil && !passing(err) { // else it was a start that ended
				unfit[slot] = err
			}
			if over {
				return nil, nil //nolint:nilnil // the service is to end
			}
		default:
			unfit[slot] = l.become(ctx, slot, s.Slots[slot].Counted) // returns only when it failed
			if ctx.Err() != nil {
				return nil, nil //nolint:nilnil // the service is to end
			}
		}
	}
}

// due decides what is to run, and keeps the decision.
func (l *Launcher) due(unfit map[Slot]error) (State, Slot, error) {
	var slot Slot
	same := errors.New("nothing to keep")
	s, err := l.Dir.Change(func(s *State) error {
		was := s.Trial
		before, wasActive := s.Base, s.Active
		*s, slot = next(*s, l.scene(s, unfit))
		if s.Seq == 0 && s.Trouble == "" || before == s.Base && wasActive == s.Active && was == nil && s.Trial == nil {
			return same
		}
		return nil
	})
	if errors.Is(err, same) {
		err = nil
	}
	return s, slot, err
}

// spare decides without keeping anything: nothing is tried that could not be counted.
func (l *Launcher) spare(unfit map[Slot]error) (State, Slot) {
	s, err := l.Dir.State()
	if err != nil {
		return State{}, Installed
	}
	s.Trial = nil
	return next(s, l.scene(&s, unfit))
}

// scene looks at slots, and remembers those that could not be started.
func (l *Launcher) scene(s *State, unfit map[Slot]error) scene {
	return scene{l.Build, func(s Slot, img Image) error {
		if err := unfit[s]; err != nil {
			return err
		}
		return l.Dir.Sound(s, img)
	}, uncleanStarts(l.lock, l.Boot, s.Active)}
}

// become replaces this process by the program in a slot. The lock stays with it.
func (l *Launcher) become(ctx context.Context, slot Slot, counted bool) error {
	if _, err := unix.FcntlInt(l.lock.Fd(), unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("hand on lock: %w", err)
	}
	do := l.exec
	if do == nil {
		do = syscall.Exec
	}
	env := append(l.contract(l.environ(), slot), envLock+"="+strconv.Itoa(int(l.lock.Fd())))
	if ctx.Err() != nil { // a signal said so, which the program could not know of
		return context.Cause(ctx)
	}
	if counted {
		if err := countStart(l.lock, l.Boot, slot); err != nil {
			l.say("start not counted: %v", err)
		}
	}
	err := l.patiently(ctx, func() error { return do(l.Dir.Program(slot), l.Argv, env) })
	return fmt.Errorf("start %s: %w", slot, err)
}

// contract tells the program in a slot that it was launched, and by whom.
func (l *Launcher) contract(env []string, slot Slot) []string {
	return append(env, envSlot+"="+string(slot), envLauncher+"="+l.Self)
}

// environ is the environment without the contract's variables.
func (l *Launcher) environ() []string {
	out := make([]string, 0, len(l.Environ)+4)
	for _, e := range l.Environ {
		switch name, _, _ := strings.Cut(e, "="); name {
		case envSlot, envLauncher, envLock, envTrial:
		default:
			out = append(out, e)
		}
	}
	return out
}

// try runs a trial as a child until it is settled, ends, or has had its time. over: a signal ended the service meanwhile. An
// error says that the program cannot be started at all.
func (l *Launcher) try(ctx context.Context, s *State) (over bool, err error) {
	trial := s.Trial
	runtime.LockOSThread() // PDEATHSIG is about the thread that forks
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := forgetStarts(l.lock); err != nil { // before it can prove itself: what was in that slot before may have crashed
		l.say("starts not forgotten: %v", err)
	}
	var cmd *exec.Cmd
	if err := l.patiently(ctx, func() error {
		cmd = exec.Command(l.Dir.Program(trial.Slot), l.Argv[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.Env = append(l.contract(withoutManager(l.environ()), trial.Slot), envTrial+"=1")
		return cmd.Start()
	}); err != nil {
		return ctx.Err() != nil, fmt.Errorf("start %s: %w", trial.Slot, err)
	}
	l.say("version %s is on trial for %s, start %d of %d", s.Slots[trial.Slot].Version, trial.window(), trial.Starts, maxStarts)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	wctx, stop := context.WithCancel(ctx)
	defer stop()
	go l.answer(wctx)
	return l.watch(ctx, trial, watched{cmd.Process, done, signals})
}

// watched is a trial that runs.
type watched struct {
	process *os.Process
	done    <-chan error
	signals <-chan os.Signal
}

// watch waits for the end of a trial, and brings it about when the window is over.
func (l *Launcher) watch(ctx context.Context, trial *Trial, w watched) (over bool, err error) {
	margin := cmp.Or(l.Margin, defaultMargin)
	limit := time.NewTimer(trial.window() + margin)
	defer limit.Stop()
	for {
		select {
		case how := <-w.done:
			l.ended(ctx, how)
			return ctx.Err() != nil, nil
		case sig := <-w.signals:
			if sig == syscall.SIGHUP {
				_ = w.process.Signal(sig) // it may have ended
				continue
			}
			w.stop()
			return true, nil
		case <-limit.C:
			if s, err := l.Dir.State(); err == nil && s.Trial == nil { // settled, and slow to end
				w.stop()
				return false, nil
			}
			_ = w.process.Kill()
			<-w.done
			_, err := l.Dir.Change(func(s *State) error {
				s.end(fmt.Sprintf("it neither showed its health nor gave up within %s, and was killed", trial.window()+margin))
				return nil
			})
			return false, err
		}
	}
}

// stop tells a trial to end, and sees to it.
func (w watched) stop() {
	_ = w.process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-w.done:
	case <-time.After(stopWait):
		_ = w.process.Kill()
		<-w.done
	}
}

// ended tells of a trial that ended by itself, and waits a moment before whatever comes next.
func (l *Launcher) ended(ctx context.Context, how error) {
	s, err := l.Dir.State()
	if err != nil || s.Trial == nil {
		return // settled, or found out again by whoever decides next
	}
	if how == nil {
		how = errors.New("exit status 0")
	}
	l.say("the trial ended before it had shown its health: %v", how)
	agent.Wait(ctx, retryWait)
}

// answer does the service manager's duties for a trial, which the manager does not know.
func (l *Launcher) answer(ctx context.Context) {
	if err := agent.Notify("READY=1\nSTATUS=an update is on trial"); err != nil {
		l.say("%v", err)
	}
	if err := agent.Watchdog(ctx, func() error { return nil }); err != nil {
		l.say("%v", err)
	}
}

// withoutManager is an environment whose program does not speak to the service manager.
func withoutManager(env []string) []string {
	out := make([]string, 0, len(env))
	for _, e := range env {
		switch name, _, _ := strings.Cut(e, "="); name {
		case "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID":
		default:
			out = append(out, e)
		}
	}
	return out
}

func (l *Launcher) say(format string, args ...any) {
	_, _ = fmt.Fprintf(l.Log, "skerry-edge: update: "+format+"\n", args...) // nobody may be listening
}
