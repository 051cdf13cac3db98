// Package pages reads the pages of a bbolt file without bbolt, which tells of damage by a panic, and not always where that can
// be caught.
package pages

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// ErrDamaged is wrapped by what is said of a file's contents; other errors are the machine's.
var ErrDamaged = errors.New("pages are damaged")

// The layout of a bbolt file, version 2 (go.etcd.io/bbolt/internal/common), in the byte order of the machine.
const (
	boltMagic        = 0xED0CDAED
	boltPageHeader   = 16 // id 8, flags 2, count 2, overflow 4
	boltElement      = 16 // branch: pos 4, ksize 4, pgid 8; leaf: flags 4, pos 4, ksize 4, vsize 4
	boltMetaBytes    = 64 // magic 4, version 4, page size 4, flags 4, root 16, freelist 8, high water 8, txid 8, checksum 8
	boltFlagBranch   = 1
	boltFlagLeaf     = 2
	boltFlagBucket   = 1 // of a leaf element
	boltNoFreelist   = ^uint64(0)
	boltManyFree     = 0xFFFF // the count is in the first element then
	boltMaxPageBytes = 64 << 10
)

// tree reads the pages of a bbolt file without bbolt.
type tree struct {
	file     *os.File
	pageSize int64
	pages    uint64 // in the file
	high     uint64 // page numbers that were ever given are below it
	seen     map[uint64]bool
}

// Tangled looks for damage of a kind that bbolt must not be let near, not even to salvage: a page below itself has it walk
// for ever, a freelist of impossible length has it take all memory. Neither can be caught. What else is wrong with the file
// at path is for bbolt to find.
func Tangled(path string) error {
	return look(path, func(t *tree, root, freelist uint64) error {
		if err := t.checkFreelist(freelist); err != nil {
			return err
		}
		return t.walk(root)
	})
}

// look opens the file at path and calls fn, unless bbolt would not open it at all.
func look(path string, fn func(t *tree, root, freelist uint64) error) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	t := &tree{file: f, pageSize: int64(os.Getpagesize()), seen: map[uint64]bool{}}
	root, freelist, ok := t.meta()
	if !ok {
		return nil
	}
	t.pages = uint64(info.Size() / t.pageSize)
	return fn(t, root, freelist)
}

// meta finds the valid meta page with the highest transaction.
func (t *tree) meta() (root, freelist uint64, ok bool) {
	ne := binary.NativeEndian
	var newest uint64
	for n := range int64(2) {
		raw := make([]byte, boltMetaBytes)
		if _, err := t.file.ReadAt(raw, n*t.pageSize+boltPageHeader); err != nil {
			continue
		}
		sum := fnv.New64a()
		sum.Write(raw[:56])
		size := int64(ne.Uint32(raw[8:]))
		if ne.Uint32(raw) != boltMagic || ne.Uint64(raw[56:]) != sum.Sum64() || size < 512 || size > boltMaxPageBytes {
			continue
		}
		if txid := ne.Uint64(raw[48:]); !ok || txid > newest {
			root, freelist, newest, ok = ne.Uint64(raw[16:]), ne.Uint64(raw[32:]), txid, true
			t.high = ne.Uint64(raw[40:])
			t.pageSize = size
		}
	}
	return root, freelist, ok
}

func (t *tree) checkFreelist(id uint64) error {
	if id == boltNoFreelist {
		return nil
	}
	raw, count, err := t.page(id)
	if err != nil || raw == nil {
		return err
	}
	if count == boltManyFree && len(raw) >= boltPageHeader+8 {
		count = int(min(binary.NativeEndian.Uint64(raw[boltPageHeader:]), 1<<30))
	}
	if uint64(count) > t.pages {
		return fmt.Errorf("%w: %d free pages of %d", ErrDamaged, count, t.pages)
	}
	return nil
}

// page reads a page with its overflow; nil when it is not all there, which bbolt notices.
func (t *tree) page(id uint64) (raw []byte, count int, err error) {
	if id >= t.pages {
		return nil, 0, nil
	}
	head := make([]byte, boltPageHeader)
	if err := t.read(head, int64(id)*t.pageSize); err != nil {
		return nil, 0, err
	}
	overflow := uint64(binary.NativeEndian.Uint32(head[12:]))
	if id+overflow >= t.pages {
		return nil, 0, nil
	}
	raw = make([]byte, t.pageSize) // element headers: more than one page of them does not occur, but for damage
	if err := t.read(raw, int64(id)*t.pageSize); err != nil {
		return nil, 0, err
	}
	return raw, int(binary.NativeEndian.Uint16(head[10:])), nil
}

func (t *tree) read(b []byte, at int64) error {
	if _, err := t.file.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read page: %w", err)
	}
	return nil
}

// walk visits the pages below id, each once.
func (t *tree) walk(id uint64) error {
	if t.seen[id] {
		return fmt.Errorf("%w: page %d is below itself or in two places", ErrDamaged, id)
	}
	t.seen[id] = true
	raw, count, err := t.page(id)
	if err != nil || raw == nil {
		return err
	}
	flags := binary.NativeEndian.Uint16(raw[8:])
	for i := range count {
		at := boltPageHeader + i*boltElement
		if at+boltElement > len(raw) {
			return nil
		}
		child, ok := childOf(raw, at, flags)
		if !ok {
			continue
		}
		if err := t.walk(child); err != nil {
			return err
		}
	}
	return nil
}

// childOf returns the page that the element at is about: the child of a branch, the root of a bucket.
func childOf(raw []byte, at int, flags uint16) (uint64, bool) {
	ne := binary.NativeEndian
	switch {
	case flags&boltFlagBranch != 0:
		return ne.Uint64(raw[at+8:]), true
	case flags&boltFlagLeaf != 0 && ne.Uint32(raw[at:])&boltFlagBucket != 0:
		value := uint64(at) + uint64(ne.Uint32(raw[at+4:])) + uint64(ne.Uint32(raw[at+8:]))
		if value+8 <= uint64(len(raw)) {
			root := ne.Uint64(raw[value:])
			return root, root != 0 // 0: the bucket is inline
		}
	}
	return 0, false
}
