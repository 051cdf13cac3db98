package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
)

// programName is that of a program in a slot.
const programName = "skerry-edge"

const (
	runLock   = "run.lock"   // held by the agent that runs, from its launch to its end
	stateLock = "state.lock" // held while the state is changed
)

// Dir is the directory of the slots. Safe for concurrent use, also by several processes.
type Dir struct {
	path string
	// cut is called before each write; an error is a power cut there. Nil but in tests.
	cut func(step string) error
}

// Open makes the directory where there is none.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of updates: %w", err)
	}
	return &Dir{path: path}, nil
}

// Program is the path of the program in a slot.
func (d *Dir) Program(s Slot) string { return filepath.Join(d.path, string(s), programName) }

func (d *Dir) step(name string) error {
	if d.cut == nil {
		return nil
	}
	return d.cut(name)
}

func stateName(seq uint64) string {
	if seq%2 == 0 {
		return "state.0"
	}
	return "state.1"
}

// State reads the state: the newer of the two files that is whole. When there is none, the zero value; when there were only
// damaged ones, that with its Trouble.
func (d *Dir) State() (State, error) {
	var best State
	found, torn := false, false
	for _, name := range []string{"state.0", "state.1"} {
		raw, err := readSmall(filepath.Join(d.path, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil && !errors.Is(err, errTorn) { // of the directory, not of the file
			return State{}, fmt.Errorf("read state of updates: %w", err)
		}
		s, err := decodeState(raw)
		if err != nil {
			torn = true
			continue
		}
		if !found || s.Seq > best.Seq {
			best, found = s, true
		}
	}
	if !found && torn {
		best.Trouble = "the state of updates was damaged; the installed program runs"
	}
	return best, nil
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxStateBytes+1))
	if errors.Is(err, unix.EIO) || len(raw) > maxStateBytes { // flash that cannot be read is as damaged
		return nil, errTorn
	}
	return raw, err
}

// Change changes the state. What change returns as an error is returned, and nothing is written.
func (d *Dir) Change(change func(s *State) error) (State, error) {
	unlock, err := d.hold(stateLock, true)
	if err != nil {
		return State{}, err
	}
	defer unlock.Close() //nolint:errcheck // it was only held
	s, err := d.State()
	if err != nil {
		return s, err
	}
	if err := change(&s); err != nil {
		return s, err
	}
	return s, d.write(&s)
}

// write keeps s: in the place of the older of the two files.
func (d *Dir) write(s *State) error {
	s.Seq++
	raw, err := s.encode()
	if err != nil {
		return err
	}
	name := filepath.Join(d.path, stateName(s.Seq))
	if err := d.writeSynced(name+".new", raw); err != nil {
		return err
	}
	return d.rename(name+".new", name)
}

func (d *Dir) writeSynced(path string, raw []byte) error {
	if err := d.step("write " + filepath.Base(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write state of updates: %w", err)
	}
	_, err = f.Write(raw)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write state of updates: %w", err)
	}
	return nil
}

// rename puts a file into its place for good.
func (d *Dir) rename(from, to string) error {
	if err := d.step("rename " + filepath.Base(to)); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if err := d.step("sync " + filepath.Base(to)); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// hold takes a lock, which the file holds until it is closed. When it does not wait, the error wraps EWOULDBLOCK.
func (d *Dir) hold(name string, wait bool) (*os.File, error) {
	path := filepath.Join(d.path, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, unix.EROFS) { // a lock takes no writing, and what is active runs from there all the same
		if r, rerr := os.Open(path); rerr == nil {
			f, err = r, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock updates: %w", err)
	}
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		err := unix.Flock(int(f.Fd()), how)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock updates: %w", err), f.Close())
		}
		return f, nil
	}
}

// holdRun takes the lock of the agent that runs. It waits as long as that takes: whose supervisor was killed goes on, and is
// followed at once when it ends. late is called once when it has to wait.
func (d *Dir) holdRun(ctx context.Context, late func()) (*os.File, error) {
	const look = 200 * time.Millisecond
	for waited := time.Duration(0); ; waited += look {
		f, err := d.hold(runLock, false)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return f, err
		}
		if waited == look {
			late()
		}
		if !agent.Wait(ctx, look) {
			return nil, ctx.Err()
		}
	}
}

// Sound tells what is wrong with what a slot holds; nil: it is what img says.
func (d *Dir) Sound(s Slot, img Image) error {
	sum, n, err := digestFile(d.Program(s))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("there is no program")
	case err != nil:
		return err
	case n != img.Bytes || sum != img.SHA256:
		return fmt.Errorf("it is damaged: it has %d bytes with sha256 %.12s; wanted %d with %.12s", n, sum, img.Bytes, img.SHA256)
	}
	return nil
}

// digestFile reads a file to its end.
func digestFile(path string) (sum string, n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	if n, err = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, make([]byte, copyBuffer)); err != nil {
		return "", n, err
	}
	return hex.EncodeToString(h.Sum(nil)), n, nil
}

const copyBuffer = 32 << 10
