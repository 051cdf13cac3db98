package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// openStore opens cluster.db under dir, which is made (0700) when missing. Damage is an error: nothing in the file can be
// made up for, and to go on would end in a panic at some later step, or in a fleet that nobody knows.
func openStore(dir string) (*bbolt.DB, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create directory: %w", err)
	}
	path := filepath.Join(dir, "cluster.db")
	if err := checkStore(path); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w; is another skerry-cluster running on this directory?", path, err)
	}
	return db, nil
}

// lockTimeout bounds the wait for another process to let the file go.
const lockTimeout = 3 * time.Second

// checkStore walks through all of a file, if there is one. It has to come before the file is opened for writing: bbolt then
// looks for free pages in a goroutine of its own, and a damaged page is a panic there that nobody can catch.
func checkStore(path string) (err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer func() {
		if r := recover(); r != nil { // bbolt's way of saying that a page is not what it claims
			err = damagedStore(path, r)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a wrong offset points out of the mapped file
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, ReadOnly: true})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("open %s: %w; is another skerry-cluster running on this directory?", path, err)
	}
	if err != nil {
		return damagedStore(path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bbolt.Tx) error {
		if tx.Size() > info.Size() {
			return damagedStore(path, fmt.Sprintf("it has %d bytes of %d", info.Size(), tx.Size()))
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return readBucket(b) })
	})
}

// readBucket touches every key and value.
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

func damagedStore(path string, why any) error {
	return fmt.Errorf("open %s: the file is damaged: %v; restore it from a backup; without one, move it away: every node then has to join again",
		path, why)
}
