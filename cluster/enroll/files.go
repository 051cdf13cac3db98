package enroll

import (
	"context"
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

const (
	lockFile     = "ca.lock"
	newSuffix    = ".new"   // of a file that belongs to a first creation
	tempSuffix   = ".tmp"   // of a file that replaces another
	maxFileBytes = 64 << 10 // of any file of the authority
	lockWithin   = 30 * time.Second
	lockPoll     = 20 * time.Millisecond
)

// directory is where the authority's files lie.
type directory string

func (d directory) path(name string) string { return filepath.Join(string(d), name) }

// lock waits for the directory's lock (flock(2)), which serialises agents that start at once. The lock dies with the
// process, so a crash never leaves it behind.
func (d directory) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, fmt.Errorf("create CA directory: %w", err)
	}
	f, err := os.OpenFile(d.path(lockFile), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open CA lock: %w", err)
	}
	for waited := time.Duration(0); ; waited += lockPoll {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if waited >= lockWithin {
			f.Close()
			return nil, fmt.Errorf("lock %s: another process holds it for more than %s; stop the other agent", f.Name(),
				lockWithin)
		}
		if !agent.Wait(ctx, lockPoll) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), context.Cause(ctx))
		}
	}
}

func (d directory) has(name string) (bool, error) {
	_, err := os.Lstat(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", d.path(name), err)
	}
	return true, nil
}

func (d directory) read(name string) ([]byte, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("read %s: larger than %d bytes", f.Name(), maxFileBytes)
	}
	return data, nil
}

// create writes a file that must not exist yet, down to the disk.
func (d directory) create(name string, data []byte) error {
	f, err := os.OpenFile(d.path(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("create %s: %w", d.path(name), err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", d.path(name), err)
	}
	return nil
}

// rename moves a file within the directory; it is durable after the next sync.
func (d directory) rename(from, to string) error {
	if err := os.Rename(d.path(from), d.path(to)); err != nil {
		return fmt.Errorf("put %s in place: %w", d.path(to), err)
	}
	return nil
}

// replace writes name anew: after a crash it has either the old content or the new.
func (d directory) replace(name string, data []byte) error {
	if err := d.drop(name + tempSuffix); err != nil {
		return err
	}
	if err := d.create(name+tempSuffix, data); err != nil {
		return err
	}
	if err := d.rename(name+tempSuffix, name); err != nil {
		return err
	}
	return d.sync()
}

func (d directory) drop(name string) error {
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", d.path(name), err)
	}
	return nil
}

// sync makes names durable.
func (d directory) sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return fmt.Errorf("sync CA directory: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync CA directory: %w", err)
	}
	return nil
}
