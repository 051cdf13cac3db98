package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"go.etcd.io/bbolt"
)

// A state that was lost is remembered by the one in its place, until that is told and for as long as it matters.
var (
	keyUntold = []byte("lost-untold")   // nobody was told yet
	keyForgot = []byte("lost-commands") // the journal begins at: milliseconds since 1970, big-endian; undated before that is known
)

// undated is the beginning of a journal that is later than any that is known.
const undated = math.MaxInt64

// begin makes what a fresh file has to have; lost tells that there was one before.
func begin(tx *bbolt.Tx, lost bool) error {
	fresh := tx.Bucket(bucketMeta) == nil
	b, err := tx.CreateBucketIfNotExists(bucketMeta)
	if err != nil || !fresh || !lost {
		return err
	}
	if err := b.Put(keyUntold, nil); err != nil {
		return err
	}
	return b.Put(keyForgot, binary.BigEndian.AppendUint64(nil, undated))
}

// loadLost reads what the file remembers of one that was lost.
func (s *Store) loadLost() error {
	return s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketMeta)
		if b.Get(keyUntold) != nil {
			s.setAside = s.db.Path() + corruptSuffix
		}
		if raw := b.Get(keyForgot); len(raw) == 8 {
			s.forgot.Store(int64(binary.BigEndian.Uint64(raw)))
		}
		return nil
	})
}

// SetAside is where a damaged state was put, until Told; empty when there was none.
func (s *Store) SetAside() string { return s.setAside }

// Told ends it: somebody keeps the news of the loss for good.
func (s *Store) Told() error {
	err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Delete(keyUntold) })
	if err != nil {
		return fmt.Errorf("keep that the loss is told: %w", err)
	}
	return nil
}

// Lose notes that the journal of commands lacks some.
func (s *Store) Lose() error { return s.beginAt(undated) }

// Begin dates the beginning of a journal that lacks commands, by the time of the cluster agent, in which they are dated. Only
// the first call after the loss counts.
func (s *Store) Begin(now time.Time) error {
	if s.forgot.Load() != undated {
		return nil
	}
	return s.beginAt(now.UnixMilli())
}

func (s *Store) beginAt(ms int64) error {
	s.forgot.Store(ms)
	return s.put(keyForgot, binary.BigEndian.AppendUint64(nil, uint64(ms)))
}

// Forgot reports whether a command that was ordered then may be one that a lost journal knew.
func (s *Store) Forgot(ordered time.Time) bool {
	at := s.forgot.Load()
	return at != 0 && ordered.UnixMilli() < at
}
