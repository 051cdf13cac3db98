// Package store is the node agent's durable state: one bbolt file, crash-safe, written rarely. The identity is not in
// it: it lives in a file of its own, so that a damaged state never costs the node its place in the cluster
// (docs/adr/0004-three-files-on-the-node.md).
package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/skerry-edge/skerry/edge/pages"
)

// Names of what the store keeps.
var (
	bucketMeta = []byte("meta")
	keyEpoch   = []byte("epoch")
	keyFloor   = []byte("clock-floor")
	keyDesired = []byte("desired")
	keyOverlay = []byte("config-overlay")
	keyClaim   = []byte("claim")
)

// corruptSuffix is what the name of a damaged file gets.
const corruptSuffix = ".corrupt"

// epochBlock is how many epochs one write reserves: a flapping link costs a flash page once in so many connects.
const epochBlock = 1024

// Store is the open state. Safe for concurrent use.
type Store struct {
	db       *bbolt.DB
	setAside string
	forgot   atomic.Int64 // when a journal that lacks commands began, milliseconds since 1970; 0: it lacks none
	next     uint64       // next epoch to hand out
	reserved uint64       // first epoch that is not reserved yet
}

// Open opens dir/state.db, creating it and dir (0700). now, in milliseconds, seeds the session epoch of a fresh store, so
// that a node whose state was lost still counts upwards: nothing connects more than a thousand times a second. A damaged
// file is set aside as state.db.corrupt and a fresh one begun: SetAside tells. The one fault that is not mended is
// somebody else holding the file.
func Open(dir string, now time.Time) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create state directory: %w", err)
	}
	path := filepath.Join(dir, "state.db")
	s := &Store{}
	db, err := open(path)
	if errors.Is(err, errDamaged) {
		if err := os.Rename(path, path+corruptSuffix); err != nil {
			return nil, fmt.Errorf("set damaged state aside: %w", err)
		}
		db, err = open(path)
	}
	if err != nil {
		return nil, err
	}
	s.db = db
	if err := errors.Join(s.loadLost(), s.loadEpoch(now)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// errDamaged marks a file that cannot be trusted.
var errDamaged = errors.New("state is damaged")

// open opens path, after it has read every page of it.
func open(path string) (*bbolt.DB, error) {
	if err := examine(path); err != nil {
		return nil, err
	}
	db, err := openWriting(path)
	if err != nil {
		return nil, err
	}
	err = db.View(func(tx *bbolt.Tx) error {
		for range tx.Check() { // one is enough; the channel must be drained
			err = errDamaged
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	// A start that set a file aside may have got no further, for want of room or of time.
	err = db.Update(func(tx *bbolt.Tx) error { return begin(tx, !absent(path+corruptSuffix)) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	return db, nil
}

// absent tells whether there is nothing in a file, or no file.
func absent(path string) bool {
	info, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0
}

// lockTimeout bounds the wait for another process to let the file go.
const lockTimeout = 2 * time.Second

// openError tells damage from what the machine has to say.
func openError(path string, err error) error {
	_, machine := errors.AsType[syscall.Errno](err)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("open %s: another skerry-edge uses it; stop that one first", path)
	case machine:
		return fmt.Errorf("open %s: %w", path, err)
	}
	return fmt.Errorf("open %s: %w: %w", path, err, errDamaged) // not all that bbolt finds wrong with a file has a name
}

// examine walks through all of a file, if there is one. bbolt finds damage only where it steps on it, by a panic; and once
// a file is opened for writing, in a goroutine of its own, where nobody can catch it. So whatever it looks for there has to be
// found before.
func examine(path string) (err error) {
	if absent(path) {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if err := pages.Check(path); errors.Is(err, pages.ErrDamaged) {
		return fmt.Errorf("open %s: %w: %w", path, err, errDamaged)
	} else if err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil { // bbolt's way of saying that a page is not what it claims
			err = fmt.Errorf("open %s: %v: %w", path, r, errDamaged)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a wrong offset points out of the mapped file
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, ReadOnly: true})
	if err != nil {
		return openError(path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bbolt.Tx) error {
		if tx.Size() > info.Size() {
			return fmt.Errorf("open %s: %d bytes of %d: %w", path, info.Size(), tx.Size(), errDamaged)
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return readBucket(b) })
	})
}

// readBucket touches every key and value, which has the processor find what points out of the file.
func readBucket(b *bbolt.Bucket) error {
	sum := byte(0)
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return readBucket(b.Bucket(k))
		}
		for _, part := range [][]byte{k, v} {
			if n := len(part); n > 0 {
				sum ^= part[0] ^ part[n-1]
			}
		}
		return nil
	})
}

// Peek reads the clock floor and the remotely set configuration from dir/state.db and changes nothing. It fails while an agent runs, and
// on a state that is missing or damaged.
func Peek(dir string) (floor time.Time, overlay []byte, err error) {
	defer func() {
		if r := recover(); r != nil { // bbolt's way of saying that a page is not what it claims
			err = fmt.Errorf("read state: %v: %w", r, errDamaged)
		}
	}()
	path := filepath.Join(dir, "state.db")
	if _, err := os.Stat(path); err != nil {
		return floor, nil, fmt.Errorf("read state: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: 100 * time.Millisecond})
	if err != nil {
		return floor, nil, fmt.Errorf("read state: %w", err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketMeta)
		if b == nil {
			return errDamaged
		}
		if raw := b.Get(keyFloor); len(raw) == 8 {
			floor = time.Unix(int64(binary.BigEndian.Uint64(raw)), 0)
		}
		overlay = append(overlay, b.Get(keyOverlay)...)
		return nil
	})
	return floor, overlay, errors.Join(err, db.Close())
}

// DB is the file, for the packages that keep buckets of their own in it.
func (s *Store) DB() *bbolt.DB { return s.db }

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

func (s *Store) loadEpoch(now time.Time) error {
	raw, err := s.get(keyEpoch)
	if err != nil {
		return err
	}
	s.next = uint64(max(now.UnixMilli(), 1))
	if len(raw) == 8 {
		s.next = binary.BigEndian.Uint64(raw)
	}
	s.reserved = s.next
	return nil
}

// NextEpoch returns a session epoch greater than any before it, also across crashes. Not for concurrent use: the link
// has one owner.
func (s *Store) NextEpoch() (uint64, error) {
	if s.next == s.reserved {
		if err := s.put(keyEpoch, binary.BigEndian.AppendUint64(nil, s.next+epochBlock)); err != nil {
			return 0, err
		}
		s.reserved = s.next + epochBlock
	}
	s.next++
	return s.next - 1, nil
}

// RaiseEpoch has the next epoch be greater than floor. Not for concurrent use with NextEpoch.
func (s *Store) RaiseEpoch(floor uint64) {
	if s.next <= floor {
		s.next = floor + 1
		s.reserved = s.next // of which nothing is on flash: NextEpoch reserves
	}
}

// Floor is the latest time that was surely past when the node last ran; zero on a fresh store.
func (s *Store) Floor() (time.Time, error) {
	raw, err := s.get(keyFloor)
	if err != nil || len(raw) != 8 {
		return time.Time{}, err
	}
	return time.Unix(int64(binary.BigEndian.Uint64(raw)), 0), nil
}

// SetFloor keeps t. Callers ration it: each call writes to flash.
func (s *Store) SetFloor(t time.Time) error {
	return s.put(keyFloor, binary.BigEndian.AppendUint64(nil, uint64(t.Unix())))
}

// Desired returns the last accepted desired document as it came, nil when there is none. SetDesired keeps one.
func (s *Store) Desired() ([]byte, error) { return s.get(keyDesired) }

// SetDesired keeps the accepted desired document.
func (s *Store) SetDesired(doc []byte) error { return s.put(keyDesired, doc) }

// Claim returns the greatest claim that was obeyed as it was kept, nil when there is none. SetClaim keeps one.
func (s *Store) Claim() ([]byte, error) { return s.get(keyClaim) }

// SetClaim keeps the greatest claim that was obeyed.
func (s *Store) SetClaim(claim []byte) error { return s.put(keyClaim, claim) }

// Overlay returns the remotely set configuration as it was kept, nil when there is none. SetOverlay keeps it.
func (s *Store) Overlay() ([]byte, error) { return s.get(keyOverlay) }

// SetOverlay keeps the remotely set configuration.
func (s *Store) SetOverlay(doc []byte) error { return s.put(keyOverlay, doc) }

func (s *Store) get(key []byte) ([]byte, error) {
	var out []byte
	err := s.db.View(func(tx *bbolt.Tx) error {
		if v := tx.Bucket(bucketMeta).Get(key); v != nil {
			out = append([]byte{}, v...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return out, nil
}

func (s *Store) put(key, value []byte) error {
	err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(key, value) })
	if err != nil {
		return fmt.Errorf("keep %s: %w", key, err)
	}
	return nil
}
