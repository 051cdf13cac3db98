package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Names in a bundle.
const (
	recordFile = "record"
	lockFile   = "lock"
	begunFile  = "begun"
	endFile    = "end"
	spareFile  = "end.new"
	SocketFile = "s"
	UpperDir   = "upper"
	WorkDir    = "work"
	RootDir    = "root"
	ErrorFile  = "errors" // what a supervisor says when it fails
)

// Bundle is an open folder of one container. It stays open when the process moves to another root. Not for concurrent use.
type Bundle struct {
	root *os.Root
	lock *os.File
}

// Create makes the folder dir for r, which must not be there. It appears under its name whole or not at all.
func Create(dir string, r *Record) error {
	fresh := filepath.Join(filepath.Dir(dir), ".new-"+filepath.Base(dir))
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.MkdirAll(fresh, 0o700); err != nil {
		return err
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	for _, sub := range []string{UpperDir, WorkDir, RootDir} {
		if err := os.Mkdir(filepath.Join(fresh, sub), 0o755); err != nil { // the root of what a container sees
			return err
		}
	}
	err = os.WriteFile(filepath.Join(fresh, lockFile), nil, 0o600)
	if err == nil {
		err = writeSynced(filepath.Join(fresh, recordFile), raw)
	}
	if err == nil {
		err = os.Rename(fresh, dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	return nil
}

func writeSynced(path string, raw []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	return errors.Join(err, f.Sync(), f.Close())
}

// Open opens the bundle in dir.
func Open(dir string) (*Bundle, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	lock, err := root.OpenFile(lockFile, os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &Bundle{root: root, lock: lock}, nil
}

// Close gives the folder back, and the lock with it.
func (b *Bundle) Close() error { return errors.Join(b.lock.Close(), b.root.Close()) }

// ErrHeld says that a supervisor has the bundle.
var ErrHeld = errors.New("the container's supervisor lives")

// Take locks the bundle until it is closed or the process ends. It fails with ErrHeld when somebody has it.
func (b *Bundle) Take() error {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	err := unix.FcntlFlock(b.lock.Fd(), unix.F_OFD_SETLK, &l)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ErrHeld
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", b.lock.Name(), err)
	}
	return nil
}

// Held tells whether another one has locked the bundle. Asking takes nothing.
func (b *Bundle) Held() (bool, error) {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(b.lock.Fd(), unix.F_OFD_GETLK, &l); err != nil {
		return false, fmt.Errorf("ask for lock %s: %w", b.lock.Name(), err)
	}
	return l.Type != unix.F_UNLCK, nil
}

// State is how a container stands by its bundle.
type State struct {
	Record Record
	Held   bool
	Begun  *Begun // nil: nothing was started
	End    *End   // nil: not ended, or nobody wrote how
}

// State reads the bundle. The lock is asked first: a supervisor writes its end before it lets go.
func (b *Bundle) State() (State, error) {
	var s State
	var err error
	if s.Held, err = b.Held(); err != nil {
		return s, err
	}
	if found, err := b.read(recordFile, &s.Record); err != nil || !found {
		return s, errors.Join(err, missing(found))
	}
	var begun Begun
	if found, err := b.read(begunFile, &begun); err != nil {
		return s, err
	} else if found {
		s.Begun = &begun
	}
	var end End
	if found, err := b.read(endFile, &end); err != nil {
		return s, err
	} else if found {
		s.End = &end
	}
	return s, nil
}

// StateIn is State for who is not the bundle's supervisor, and may meet its removal: it fails with fs.ErrNotExist when the bundle is not
// in dir any more, as what was read of it may be a part only. One that is removed leaves dir first and loses its files then.
func (b *Bundle) StateIn(dir string) (State, error) {
	s, err := b.State()
	mine, serr := b.root.Stat(".")
	now, nerr := os.Stat(dir)
	if serr != nil || nerr != nil {
		return State{}, errors.Join(serr, nerr)
	}
	if !os.SameFile(mine, now) {
		return State{}, &fs.PathError{Op: "read bundle", Path: dir, Err: fs.ErrNotExist}
	}
	return s, err
}

func missing(found bool) error {
	if found {
		return nil
	}
	return errors.New("the bundle has no record")
}

func (b *Bundle) read(name string, to any) (found bool, err error) {
	raw, err := b.root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, decode(name, raw, to)
}

// Begin notes that a container starts now. It fails when it was noted before. Room for the end is taken at once, so
// that a full disk does not lose it.
func (b *Bundle) Begin(begun *Begun) error {
	raw, err := json.Marshal(begun)
	if err != nil {
		return err
	}
	blank, err := (&End{}).encode()
	if err != nil {
		return err
	}
	if err := b.write(spareFile, os.O_CREATE|os.O_TRUNC, blank); err != nil {
		return err
	}
	if err := b.write(begunFile+".new", os.O_CREATE|os.O_TRUNC, raw); err != nil {
		return err
	}
	if err := b.root.Link(begunFile+".new", begunFile); err != nil { // unlike a rename, it fails when there is one
		return err
	}
	return errors.Join(b.root.Remove(begunFile+".new"), b.sync())
}

// Finish writes how the container ended, once: a second call changes nothing.
func (b *Bundle) Finish(end *End) error {
	raw, err := end.encode()
	if err != nil {
		return err
	}
	if _, err := b.root.Lstat(endFile); err == nil {
		return nil
	}
	if err := b.write(spareFile, os.O_CREATE, raw); err != nil {
		return err
	}
	if err := b.root.Rename(spareFile, endFile); err != nil {
		return err
	}
	return b.sync()
}

func (b *Bundle) write(name string, flags int, raw []byte) error {
	f, err := b.root.OpenFile(name, os.O_WRONLY|flags, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	return errors.Join(err, f.Sync(), f.Close())
}

func (b *Bundle) sync() error {
	d, err := b.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
