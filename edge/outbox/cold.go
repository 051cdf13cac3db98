package outbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// Names in outbox.db. Keys of the streams are epoch and seq, big-endian, so that their order is the order of sending.
const (
	bucketTele  = "tele"
	bucketEvent = "event"
	bucketMeta  = "meta"
	keyState    = "state"
)

const (
	lockWithin = time.Second
	growBytes  = 256 << 10 // by how much the file grows once it is larger than this
	restBytes  = 1 << 20   // read so much, and the file is unmapped and mapped again: mapped pages count as our memory
	purgeChunk = 1024      // acknowledged records deleted in one transaction
	txBytes    = 512 << 10 // of records changed in one transaction, about: they are in memory until it ends
)

// errDamaged means that outbox.db cannot be trusted any more.
var errDamaged = errors.New("outbox.db is damaged")

// cold is the tier in flash: a bbolt file that exists only while there is a backlog, or a count of drops to remember.
// It is opened when needed and closed when idle. Not for concurrent use.
type cold struct {
	path  string
	db    *bbolt.DB
	file  *os.File
	phys  tally           // what is in the file
	tally tally           // the same without what is acknowledged but not yet deleted
	acked map[lane]uint64 // acknowledged, not yet deleted
	known bool            // the file was verified, or there was none
	read  int64           // bytes read since the file was mapped
	wrote uint64          // bytes committed, see change
}

func newCold(path string) *cold { return &cold{path: path, acked: map[lane]uint64{}} }

func bucketOf(s stream) []byte {
	if s == tele {
		return []byte(bucketTele)
	}
	return []byte(bucketEvent)
}

const keyBytes = 16

func (k key) bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(make([]byte, 0, keyBytes), k.epoch), k.seq)
}

func parseKey(b []byte) (key, error) {
	if len(b) != keyBytes {
		return key{}, fmt.Errorf("%w: key of %d bytes", errDamaged, len(b))
	}
	return key{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, nil
}

// open maps the file. The freelist is kept in the file: rebuilding it would walk all pages in a goroutine of bbolt's, in
// which a damaged page could not be caught.
func (c *cold) open(readOnly bool) error {
	if c.db != nil {
		return nil
	}
	db, err := bbolt.Open(c.path, 0o600, &bbolt.Options{
		Timeout: lockWithin, ReadOnly: readOnly, FreelistType: bbolt.FreelistArrayType,
		OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, perm)
			c.file = f
			return f, err
		}})
	var errno unix.Errno
	if errors.Is(err, bolterrors.ErrTimeout) || errors.As(err, &errno) { // somebody holds it, or the file system's trouble
		return fmt.Errorf("open %s: %w", c.path, err)
	}
	if err != nil { // the content's
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	db.AllocSize = growBytes
	c.db, c.read = db, 0
	return nil
}

// guard runs fn in a transaction and commits it when write is set. bbolt tells of a damaged page by a panic, or steps
// out of the mapping; both become errDamaged here, and the handle, whose locks may be held for ever, is abandoned.
func (c *cold) guard(write bool, fn func(tx *bbolt.Tx) error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if r := recover(); r != nil {
			c.abandon()
			err = fmt.Errorf("%w: %v", errDamaged, r)
		}
	}()
	if err := c.open(false); err != nil {
		return err
	}
	tx, err := c.db.Begin(write)
	if err != nil {
		return fmt.Errorf("begin in %s: %w", c.path, err)
	}
	if err := fn(tx); err != nil || !write {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return errors.Join(fmt.Errorf("commit to %s: %w", c.path, err), c.rest())
	}
	stats := tx.Stats()
	c.wrote += uint64(stats.GetPageAlloc()) + uint64(os.Getpagesize()) // the changed pages and one meta page
	return nil
}

// rest closes the file until it is needed again.
func (c *cold) rest() error {
	if c.db == nil {
		return nil
	}
	err := c.db.Close()
	c.db, c.file = nil, nil
	if err != nil {
		return fmt.Errorf("close %s: %w", c.path, err)
	}
	return nil
}

// abandon lets go of a handle that cannot be closed: bbolt may have panicked with its locks held. The mapping stays until
// the process ends, once per damaged file; and as it keeps the open file alive, the lock must be undone by hand (flock(2)).
func (c *cold) abandon() {
	if c.file != nil {
		_ = unix.Flock(int(c.file.Fd()), unix.LOCK_UN) // both fail only when bbolt has closed the file already
		_ = c.file.Close()
	}
	c.db, c.file = nil, nil
}

// exists reports whether there is a file at all.
func (c *cold) exists() bool {
	_, err := os.Stat(c.path)
	return err == nil || !errors.Is(err, os.ErrNotExist)
}

// walk calls fn for each record of s from key from on. It checks headers; payloads are fn's to check.
func (c *cold) walk(tx *bbolt.Tx, s stream, from key, fn func(r *record) (bool, error)) error {
	b := tx.Bucket(bucketOf(s))
	if b == nil {
		return nil
	}
	cur := b.Cursor()
	for k, v := cur.Seek(from.bytes()); k != nil; k, v = cur.Next() {
		r, err := c.parse(k, v)
		if err != nil {
			return err
		}
		more, err := fn(&r)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// parse reads the header of a stored record and takes the payload as it is.
func (c *cold) parse(k, v []byte) (record, error) {
	at, err := parseKey(k)
	if err != nil {
		return record{}, err
	}
	m, sum, err := parseHeader(v)
	if err != nil {
		return record{}, fmt.Errorf("%w: epoch %d seq %d: %w", errDamaged, at.epoch, at.seq, err)
	}
	if m.key != at || m.bytes() != int64(len(v)) || m.kind != kindBatch && m.kind != kindEvent {
		return record{}, fmt.Errorf("%w: record under key epoch %d seq %d is another's", errDamaged, at.epoch, at.seq)
	}
	c.read += int64(min(len(v), os.Getpagesize())) // what of it was touched, about
	return record{meta: m, payload: v[headerBytes:], sum: sum}, nil
}

func (c *cold) held() int64 { return c.tally.Bytes }

func (c *cold) scan(s stream, from key, fn func(meta) bool) error {
	if c.tally.stream(s) == 0 {
		return nil
	}
	return c.guard(false, func(tx *bbolt.Tx) error {
		for at, more := from, true; more; {
			more = false
			err := c.walk(tx, s, at, func(r *record) (bool, error) {
				if done := c.acked[lane{s, r.epoch}]; r.seq <= done { // leap over all that is acknowledged
					at, more = key{r.epoch, done + 1}, true
					return false, nil
				}
				return fn(r.meta), nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *cold) load(m *meta) (r record, err error) {
	err = c.guard(false, func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketOf(m.class.stream()))
		if b == nil {
			return fmt.Errorf("%w: bucket is missing", errDamaged)
		}
		v := b.Get(m.key.bytes())
		if v == nil {
			return fmt.Errorf("%w: epoch %d seq %d is missing", errDamaged, m.epoch, m.seq)
		}
		c.read += int64(len(v))
		own := append([]byte(nil), v...) // v is gone after the transaction
		if r, err = parseRecord(own); err != nil {
			return fmt.Errorf("%w: epoch %d seq %d: %w", errDamaged, m.epoch, m.seq, err)
		}
		return nil
	})
	return r, err
}

// putState writes st, with the tally that the transaction leaves behind.
func putState(tx *bbolt.Tx, st *state) error {
	b, err := tx.CreateBucketIfNotExists([]byte(bucketMeta))
	if err != nil {
		return err
	}
	raw, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("encode outbox state: %w", err)
	}
	return b.Put([]byte(keyState), appendRecord(nil, &record{meta: meta{kind: kindState}, payload: raw}))
}
