package update

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Self is what the running agent is of the slots.
type Self struct {
	dir      *Dir
	slot     Slot
	launcher string   // path of the installed program; empty: that is this one
	build    string   // of the installed program, when that is this one
	trial    bool     // on trial, with the launcher as parent
	lock     *os.File // of the agent that runs; a trial's is the launcher's
}

// ErrReturned says that a trial was ended meanwhile by somebody else.
var ErrReturned = errors.New("the trial is over: the launcher has ended it")

// Adopt makes of a program that was launched what it is of the slots. The contract's variables are taken out of the
// environment, so that nothing that the agent starts takes itself for a launched agent.
func Adopt(path string) (*Self, error) {
	dir, err := Open(path)
	if err != nil {
		return nil, err
	}
	s := &Self{dir: dir, slot: Slot(os.Getenv(envSlot)), launcher: os.Getenv(envLauncher), trial: os.Getenv(envTrial) != ""}
	if fd, err := strconv.Atoi(os.Getenv(envLock)); err == nil {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err == nil {
			s.lock = os.NewFile(uintptr(fd), runLock)
		}
	}
	for _, name := range []string{envSlot, envLauncher, envLock, envTrial} {
		if err := os.Unsetenv(name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// BuildOf names the installed program, which this process runs: its build, and its file, so that the other variant, or the same
// program installed once more, is another.
func BuildOf(build string) string {
	written := int64(0)
	if info, err := os.Stat("/proc/self/exe"); err == nil { // the file that runs, even when its name is gone
		written = info.ModTime().Unix()
	}
	return build + " " + variant + " " + strconv.FormatInt(written, 10)
}

// Slot is where this program lies.
func (s *Self) Slot() Slot { return s.slot }

// OnTrial reports whether this program has to show its health.
func (s *Self) OnTrial() bool { return s.trial }

// State is that of the slots.
func (s *Self) State() (State, error) { return s.dir.State() }

// Prove ends the trial: this program is the active one from now on. ErrReturned: too late.
func (s *Self) Prove() error { return s.settle("") }

// Fail ends the trial: the program before this one is to run again.
func (s *Self) Fail(reason string) error { return s.settle(reason) }

// Doubt ends the trial as Fail does, for want of a link alone. Whether that is the program's fault, the one before finds out.
func (s *Self) Doubt(reason string) error {
	_, err := s.dir.Change(func(st *State) error {
		if st.Trial == nil || st.Trial.Slot != s.slot {
			return ErrReturned
		}
		offline := st.Trial.Offline
		st.end(reason)
		o := &st.Outcomes[len(st.Outcomes)-1]
		if o.Doubt = !offline; offline {
			o.vain("there was no link before it either")
		}
		return nil
	})
	return err
}

// Judge settles what was in doubt: connected says whether this program, which is the one before, can connect.
func (s *Self) Judge(connected bool) error {
	_, err := s.dir.Change(func(st *State) error {
		for i := range st.Outcomes {
			if o := &st.Outcomes[i]; o.Doubt {
				if o.Doubt = false; !connected {
					o.vain(o.From + " cannot connect either")
				}
			}
		}
		return nil
	})
	return err
}

func (s *Self) settle(reason string) error {
	_, err := s.dir.Change(func(st *State) error {
		if st.Trial == nil || st.Trial.Slot != s.slot {
			return ErrReturned
		}
		st.end(reason)
		return nil
	})
	return err
}

// News takes what is to be told as events: outcomes that were not told yet, and trouble at a start.
func (s *Self) News() (outcomes []Outcome, trouble string, err error) {
	st, err := s.dir.State()
	if err != nil {
		return nil, "", err
	}
	for _, o := range st.Outcomes {
		if !o.Told {
			outcomes = append(outcomes, o)
		}
	}
	return outcomes, st.Trouble, nil
}

// Told notes that the news was told.
func (s *Self) Told() error {
	_, err := s.dir.Change(func(st *State) error {
		for i := range st.Outcomes {
			st.Outcomes[i].Told = true
		}
		st.Trouble = ""
		return nil
	})
	return err
}

// Writable writes the state as it is; an error says that no trial can begin, such as for want of disk.
func (s *Self) Writable() error {
	_, err := s.dir.Change(func(*State) error { return nil })
	return err
}

// Restart starts what is due in the place of this process. On trial it returns nil, and the end of this process has the launcher
// go on.
func (s *Self) Restart(argv []string) error {
	if s.trial {
		return nil
	}
	path := s.launcher
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("restart: %w", err)
		}
		path = self
	}
	stayed := s.Stayed() // it is no crash
	err := errors.Join(syscall.Exec(path, argv, os.Environ()), stayed)
	if s.launcher != "" { // it was taken away: what runs is better than nothing
		if self, serr := os.Executable(); serr == nil {
			env := append(os.Environ(), envSlot+"="+string(s.slot), envLauncher+"="+s.launcher)
			err = errors.Join(err, syscall.Exec(self, argv, env))
		}
	}
	return fmt.Errorf("restart %s: %w", path, err)
}
