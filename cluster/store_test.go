package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// filledStore makes a cluster.db of some hundred pages, and returns its directory.
func filledStore(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	db, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{"nodes", "commands"} {
			b, err := tx.CreateBucket([]byte(name))
			if err != nil {
				return err
			}
			for i := range 2000 {
				if err := b.Put(fmt.Appendf(nil, "%06d", i), []byte(strings.Repeat("x", 200))); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestADamagedRegistryIsRefusedWithItsCure(t *testing.T) {
	const page = 4096
	for name, harm := range map[string]func([]byte) []byte{
		"cut off":            func(raw []byte) []byte { return raw[:len(raw)/2/page*page] },
		"not a database":     func(raw []byte) []byte { return []byte(strings.Repeat("nonsense", 4096)) },
		"both headers":       func(raw []byte) []byte { copy(raw[16:], "nonsense"); copy(raw[page+16:], "nonsense"); return raw },
		"numbers of pages":   func(raw []byte) []byte { return everyPage(raw, func(p []byte) { p[0] ^= 0x40 }) },
		"kinds of pages":     func(raw []byte) []byte { return everyPage(raw, func(p []byte) { p[8] ^= 0x55 }) },
		"numbers of entries": func(raw []byte) []byte { return everyPage(raw, func(p []byte) { p[10], p[11] = 0xff, 0x7f }) },
		"places of entries":  func(raw []byte) []byte { return everyPage(raw, func(p []byte) { p[16+7], p[16+16+7] = 0x7f, 0x7f }) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filledStore(t)
			path := filepath.Join(dir, "cluster.db")
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, harm(raw), 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := openStore(dir)
			if err == nil {
				_ = db.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), path+": the file is damaged: ") || !strings.Contains(err.Error(), "restore it from a backup") {
				t.Errorf("%v; wanted the file, what is wrong, and the cure", err)
			}
		})
	}
}

// everyPage harms all pages but the two headers.
func everyPage(raw []byte, harm func([]byte)) []byte {
	const page = 4096
	for at := 2 * page; at+page <= len(raw); at += page {
		harm(raw[at:])
	}
	return raw
}

func TestASoundRegistryIsOpened(t *testing.T) {
	dir := filledStore(t)
	for range 2 {
		db, err := openStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
