package commit

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"go.etcd.io/bbolt"
)

var bucket = []byte("b")

func open(t testing.TB) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(bucket)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func add(tx *bbolt.Tx) (uint64, error) {
	b := tx.Bucket(bucket)
	n := uint64(1)
	if raw := b.Get([]byte("n")); raw != nil {
		n += binary.BigEndian.Uint64(raw)
	}
	return n, b.Put([]byte("n"), binary.BigEndian.AppendUint64(nil, n))
}

func TestManyWritersShareTransactionsAndLoseNothing(t *testing.T) {
	db := open(t)
	g := New(db)
	var order []uint64 // guarded by the group: after never runs twice at a time
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 10 {
				var n uint64
				err := g.Do(func(tx *bbolt.Tx) (err error) {
					n, err = add(tx)
					return err
				}, func() { order = append(order, n) })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(order) != 640 {
		t.Fatalf("%d changes ran their after; wanted 640", len(order))
	}
	for i, n := range order {
		if n != uint64(i+1) {
			t.Fatalf("after number %d saw %d: not in the order of the commits", i, n)
		}
	}
	if commits, ops := g.Stats(); ops != 640 || commits >= ops {
		t.Fatalf("%d commits for %d changes: nothing was shared", commits, ops)
	}
}

func TestFailingChangeIsGivenUpAlone(t *testing.T) {
	db := open(t)
	g := New(db)
	wrong := errors.New("wrong")
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			ran := false
			err := g.Do(func(tx *bbolt.Tx) error {
				if _, err := add(tx); err != nil {
					return err
				}
				if i%10 == 0 {
					return wrong
				}
				return nil
			}, func() { ran = true })
			if want := i%10 == 0; errors.Is(err, wrong) != want || ran == want {
				t.Errorf("change %d: err %v, after ran %v", i, err, ran)
			}
		})
	}
	wg.Wait()
	err := db.View(func(tx *bbolt.Tx) error {
		if n := binary.BigEndian.Uint64(tx.Bucket(bucket).Get([]byte("n"))); n != 90 {
			t.Errorf("counter is %d; wanted 90", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPanicOfOneDoesNotLockOutTheOthers(t *testing.T) {
	g := New(open(t))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = g.Do(func(*bbolt.Tx) error { panic("boom") }, nil)
	}()
	if err := g.Do(func(tx *bbolt.Tx) error { _, err := add(tx); return err }, nil); err != nil {
		t.Fatal(err)
	}
}

func TestClosedDatabaseIsAnErrorForAll(t *testing.T) {
	db := open(t)
	g := New(db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	ran := false
	if err := g.Do(func(*bbolt.Tx) error { return nil }, func() { ran = true }); err == nil || ran {
		t.Fatalf("err %v, after ran %v", err, ran)
	}
}
