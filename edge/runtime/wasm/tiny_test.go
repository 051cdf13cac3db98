//go:build !lite

package wasm

import (
	"os"
	"path/filepath"
	"testing"
)

// tiny is a module of nothing but exit 9.
const tiny = "\x00asm\x01\x00\x00\x00" + "\x01\x08\x02\x60\x01\x7f\x00\x60\x00\x00" +
	"\x02\x24\x01\x16wasi_snapshot_preview1\x09proc_exit\x00\x00" + "\x03\x02\x01\x01" + "\x05\x03\x01\x00\x01" +
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x01" + "\x0a\x08\x01\x06\x00\x41\x09\x10\x00\x0b"

func TestASmallModuleRuns(t *testing.T) {
	r := newRig(t, 0)
	if err := os.WriteFile(filepath.Join(r.dir, "image", "tiny.wasm"), []byte(tiny), 0o644); err != nil {
		t.Fatal(err)
	}
	c := r.container("tiny")
	c.Command = []string{"/tiny.wasm"}
	if o, _ := r.run(c); o.Exit != 9 {
		t.Errorf("%+v; wanted exit 9", o)
	}
}
