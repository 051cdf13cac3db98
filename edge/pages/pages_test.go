package pages

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// options are those of a file whose free pages bbolt has to find, by a walk in a goroutine of its own.
func options() *bbolt.Options {
	return &bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType}
}

// grown is a file with branches, long values, and buckets in buckets, inline and not.
func grown(t testing.TB, dice *rand.Rand) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "grown.db")
	db, err := bbolt.Open(path, 0o600, options())
	if err != nil {
		t.Fatal(err)
	}
	db.NoSync = true
	for range 6 {
		err = db.Update(func(tx *bbolt.Tx) error {
			for n := range 3 {
				b, err := tx.CreateBucketIfNotExists(fmt.Append(nil, "bucket-", n))
				if err != nil {
					return err
				}
				in, err := b.CreateBucketIfNotExists([]byte("within"))
				if err != nil {
					return err
				}
				for range 20 << n {
					err = errors.Join(err, b.Put(fmt.Append(nil, dice.IntN(400)), make([]byte, dice.IntN(200))), b.Delete(fmt.Append(nil, dice.IntN(400))))
				}
				err = errors.Join(err, b.Put([]byte("long"), make([]byte, dice.IntN(9000))), in.Put(fmt.Append(nil, dice.IntN(9)), make([]byte, 10)))
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// open has bbolt do everything with the file that a start does. A fault that Check should have found ends the process.
func open(t testing.TB, path string) error {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, options())
	if err != nil {
		return err
	}
	err = db.View(func(tx *bbolt.Tx) (first error) {
		for err := range tx.Check() {
			first = errors.Join(first, err)
		}
		return first
	})
	return errors.Join(err, db.Close())
}

func TestASoundFileIsFoundSound(t *testing.T) {
	for seed := range uint64(8) {
		path := filepath.Join(t.TempDir(), "state.db")
		if err := os.WriteFile(path, grown(t, rand.New(rand.NewPCG(seed, 1))), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(Check(path), Tangled(path), open(t, path)); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

func TestNoDamageThatIsNotFoundUpsetsBbolt(t *testing.T) {
	dice := rand.New(rand.NewPCG(7, 7))
	whole := grown(t, dice)
	path := filepath.Join(t.TempDir(), "state.db")
	const tries, page = 300, 4096
	found := 0
	for n := range tries {
		raw := append([]byte(nil), whole...)
		at := 2*page + dice.IntN(len(raw)-2*page) // what is wrong with its headers, bbolt tells itself
		if n%3 > 0 {                              // where it hurts: headers and entries
			at = (2+dice.IntN(len(raw)/page-2))*page + dice.IntN(200)
		}
		raw[at] ^= 1 << dice.IntN(8)
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if Check(path) != nil {
			found++
			continue
		}
		if err := open(t, path); err != nil {
			t.Errorf("bit flipped at %d, page %d: not found, and %v", at, at/page, err)
		}
	}
	if found < tries/20 {
		t.Errorf("%d of %d flips were found", found, tries)
	}
}

func FuzzCheckReadsWhateverThereIs(f *testing.F) {
	whole := grown(f, rand.New(rand.NewPCG(3, 3)))
	f.Add(uint32(2*4096), []byte{0xff})
	f.Add(uint32(3*4096+8), []byte{1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add(uint32(4*4096+16), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	path := filepath.Join(f.TempDir(), "state.db")
	f.Fuzz(func(t *testing.T, at uint32, with []byte) {
		raw := append([]byte(nil), whole...)
		copy(raw[int(at)%len(raw):], with)
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if tangled := Tangled(path); Check(path) == nil {
			if err := errors.Join(tangled, open(t, path)); err != nil && int(at)%len(raw) >= 2*4096 { // bbolt refuses its headers itself
				t.Errorf("not found, and %v", err)
			}
		}
	})
}
