package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/edge/runtime/bundle"
)

// ModuleCommand is the argument that makes a supervisor's program the process of a WebAssembly module.
const ModuleCommand = "module"

// Module is what the process of a module is told, on descriptor TaskFD, once there is nothing left in its root by which the
// module could reach the process itself.
type Module struct {
	Argv   []string      `json:"argv"`
	Env    []string      `json:"env"`
	Memory int64         `json:"memory"` // bytes; 0: what is usual
	Wall   time.Duration `json:"wall"`   // how long it may run; 0: for ever
}

// Word is what that process tells, on descriptor WordFD: first that the module is about to run or why it cannot, and, when
// there is something to say, how it ended.
type Word struct {
	Ready   bool   `json:"ready,omitempty"`
	Message string `json:"message,omitempty"`
}

// Descriptors of the process of a module.
const (
	TaskFD = 3
	WordFD = 4
)

// moduleMemory is what the process of a module takes beside the module's own memory: the compiler, and what it makes.
const moduleMemory = 96 << 20

// startModule starts the process of a WebAssembly module: this program once more, as a program of the container. It is confined
// before its first instruction, like any other, and not by itself while it runs: no thread of a Go program has to be confined
// after it was started.
func (s *supervisor) startModule() (<-chan *bundle.End, error) {
	p, err := s.plumb(s.spec.TTY, s.spec.Stdin)
	if err != nil {
		return nil, err
	}
	task, said, err := p.more()
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	pid, status, err := s.spawn([]string{"/proc/self/exe", "shim", ModuleCommand}, nil, p)
	if err != nil {
		return nil, errors.Join(err, p.close(), task.Close(), said.Close())
	}
	s.adopt(pid, p)
	ended := make(chan *bundle.End, 1)
	words := json.NewDecoder(io.LimitReader(said, maxTold))
	var first Word
	err = s.hand(task)
	if err == nil {
		err = words.Decode(&first)
	}
	if err != nil || !first.Ready {
		_ = s.reaper.signal(pid, false, unix.SIGKILL) // it may have ended
		ws := <-status
		if first.Message == "" {
			first.Message = fmt.Sprintf("the process of the module ended before it began, with %d (%v)", endOf(ws).Exit, err)
		}
		return nil, errors.Join(errors.New(first.Message), said.Close())
	}
	go func() {
		end := endOf(<-status)
		var last Word
		if words.Decode(&last) == nil { // most have nothing to say
			end.Message = last.Message
		}
		_ = said.Close() // all is said
		ended <- end
	}()
	return ended, nil
}

// maxTold bounds what the process of a module may tell.
const maxTold = 64 << 10

// hand takes /proc away, by which a module could write the memory of the process that it is kept in, and then says what to run.
func (s *supervisor) hand(task *os.File) error {
	if err := unix.Unmount("/proc", unix.MNT_DETACH); err != nil {
		return errors.Join(fmt.Errorf("take /proc away: %w", err), task.Close())
	}
	raw, err := json.Marshal(&Module{Argv: s.spec.Argv, Env: s.env, Memory: s.spec.Limits.MemoryBytes, Wall: s.spec.Wall})
	if err == nil {
		_, err = task.Write(raw)
	}
	return errors.Join(err, task.Close())
}

// more adds the two descriptors by which the process of a module is spoken with, and returns our ends.
func (p *plumbing) more() (task, said *os.File, err error) {
	task, theirs, err := pipe(false)
	if err != nil {
		return nil, nil, err
	}
	said, says, err := pipe(true)
	if err != nil {
		return nil, nil, errors.Join(err, task.Close(), theirs.Close())
	}
	p.extra = []*os.File{theirs, says}
	p.theirs = append(p.theirs, theirs, says)
	return task, said, nil
}
