package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/test/skew"
)

// Process is an agent on a host of its own, with a disk of its own. Safe for concurrent use.
type Process struct {
	Name    string // also of its host and of its address
	Program string
	Args    []string
	Log     string      // path; kept
	Disk    string      // where its small file system is mounted; its state and its runtime directory are there
	Clock   *skew.Shift // nil: its clock cannot jump
	shift   string      // file of Clock

	network *Network
	mu      sync.Mutex
	cmd     *exec.Cmd
	done    chan struct{}
	ending  bool        // we ended it, or are about to
	births  []time.Time // of its lives
	deaths  []string    // ends that nobody asked for
	trouble int         // of a kind for which a program may refuse to run
	calm    time.Time   // when the last such trouble ended
	spans   []span      // of trouble
	refused []string    // ends that such trouble excuses
	logged  int64       // how much of the log is of earlier rounds
}

// clockShift is the variable that has this program run another with a wrong clock; see Door.Main.
const clockShift = "SKERRY_FAULT_CLOCK"

// Start starts it, or starts it again.
func (p *Process) Start(context.Context) error { return p.start(false) }

// start starts it; again tells that it ended by itself, which is void when somebody has ended or started it since.
func (p *Process) start(again bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if again && (p.ending || p.cmd != nil) {
		return nil
	}
	if p.cmd != nil {
		return fmt.Errorf("start %s: it runs already", p.Name)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	program, args, env := p.Program, p.Args, []string(nil)
	if p.Clock != nil {
		self, err := os.Executable()
		if err != nil {
			return errors.Join(err, log.Close())
		}
		// Each system call waits for the tracer and back: beside busy programs that would take for ever.
		program, args, env = "nice", append([]string{"-n", "-10", self, p.Program}, p.Args...), []string{clockShift + "=" + p.shift}
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(append(cmd.Environ(), "SKERRY_CONFIG="), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.network.In(p.Name, cmd.Start); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", p.Name, err), log.Close())
	}
	done := make(chan struct{})
	p.cmd, p.done, p.ending = cmd, done, false
	p.births = append(p.births, time.Now())
	go func() { // ends with the process
		err := cmd.Wait()
		_ = log.Close()
		p.died(cmd, err)
		close(done)
	}()
	return nil
}

// restartAfter is how long a service manager waits before it starts an agent anew that has ended by itself.
const restartAfter = time.Second

// refuseWithin is how long a start that met trouble may take until it has said so.
const refuseWithin = 5 * time.Second

// died notes an end that nobody asked for. A program may refuse to run with an exit code that says so when its disk
// is full or damaged, or was just when this life began; never may it panic, or be ended by a signal. Then it is started anew.
func (p *Process) died(cmd *exec.Cmd, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending || p.cmd != cmd {
		return
	}
	p.cmd = nil
	text := fmt.Sprintf("%s ended by itself at %s: %v: %s", p.Name, time.Now().Format(time.TimeOnly), err, lastLine(p.Log))
	if code := cmd.ProcessState.ExitCode(); (p.trouble > 0 || time.Since(p.calm) < refuseWithin && p.births[len(p.births)-1].Before(p.calm)) && code > 0 && code < 128 && code != 2 {
		p.refused = append(p.refused, text)
	} else {
		p.deaths = append(p.deaths, text)
	}
	time.AfterFunc(restartAfter, func() { _ = p.start(true) }) // whoever waits for it will tell
}

// begin forgets what earlier rounds blame it for.
func (p *Process) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaths, p.refused = nil, nil
	if info, err := os.Stat(p.Log); err == nil {
		p.logged = info.Size()
	}
}

// refusals are the ends that trouble excuses.
func (p *Process) refusals() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.refused...)
}

// Kill ends it and its children as a power cut would, but for the disk: what was written is there.
func (p *Process) Kill(ctx context.Context) error { return p.end(ctx, syscall.SIGKILL) }

// Stop asks it to end.
func (p *Process) Stop(ctx context.Context) error { return p.end(ctx, syscall.SIGTERM) }

func (p *Process) end(ctx context.Context, sig syscall.Signal) error {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.ending = true
	if cmd == nil {
		p.mu.Unlock()
		return nil
	}
	err := syscall.Kill(-cmd.Process.Pid, sig)
	p.mu.Unlock()
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end %s: %w", p.Name, err)
	}
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("end %s: %w", p.Name, ctx.Err())
	}
	if err := vanished(ctx, cmd.Process.Pid); err != nil {
		return fmt.Errorf("end %s: %w", p.Name, err)
	}
	p.mu.Lock()
	p.cmd = nil
	p.mu.Unlock()
	return nil
}

// vanished waits until nothing of a process group is left: an agent that is traced may end after its tracer, and holds its
// files, and their locks, for so long.
func vanished(ctx context.Context, group int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return until(ctx, "its processes are gone", func() error {
		if err := syscall.Kill(-group, 0); !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("group %d is there: %v", group, err)
		}
		return nil
	})
}

// Signal sends a signal to it and its children.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	return syscall.Kill(-p.cmd.Process.Pid, sig)
}

// Running tells whether it does.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil
}

// Deaths are the ends that nobody asked for.
func (p *Process) Deaths() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.deaths...)
}

// Births are the times at which it was started.
func (p *Process) Births() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]time.Time(nil), p.births...)
}

// pid is that of the agent, be it traced or not; 0 when it does not run.
func (p *Process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	pid := p.cmd.Process.Pid
	if p.Clock == nil {
		return pid
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	var child int
	if _, serr := fmt.Sscan(string(raw), &child); err == nil && serr == nil {
		return child
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the thread that traces is the parent
	for _, path := range tasks {
		raw, err := os.ReadFile(path)
		if _, serr := fmt.Sscan(string(raw), &child); err == nil && serr == nil {
			return child
		}
	}
	return pid
}

// residentBytes is its RSS: proc(5), the second field of statm.
func (p *Process) residentBytes() int64 {
	var size, pages int64
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid()))
	if _, serr := fmt.Sscan(string(raw), &size, &pages); err != nil || serr != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// diskBytes is what is on its disk.
func (p *Process) diskBytes() int64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(p.Disk, &st); err != nil {
		return 0
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// unwanted are words of a log that no fault excuses.
var unwanted = []string{"DATA RACE", "panic:", "fatal error:", "goroutine 1 ["}

// complaints are the lines of its log that no fault excuses.
func (p *Process) complaints() (bad []string) {
	raw, err := os.ReadFile(p.Log)
	if err != nil {
		return []string{err.Error()}
	}
	p.mu.Lock()
	raw = raw[min(p.logged, int64(len(raw))):]
	p.mu.Unlock()
	for line := range strings.Lines(string(raw)) {
		for _, w := range unwanted {
			if strings.Contains(line, w) && len(bad) < 5 {
				bad = append(bad, p.Name+": "+strings.TrimSpace(line))
			}
		}
	}
	return bad
}

// until calls try until it returns nil, and returns its last error when ctx ends.
func until(ctx context.Context, what string, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		if !agent.Wait(ctx, 100*time.Millisecond) {
			return fmt.Errorf("wait until %s: %w: %w", what, ctx.Err(), err)
		}
	}
}

func readProc(pid int, name string) (string, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	return string(raw), err
}
