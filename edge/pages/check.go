package pages

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

const (
	boltBucketBytes = 16 // of a bucket's root page and sequence, at the beginning of its value
	firstPage       = 2  // behind the two headers
)

// Check looks for everything that bbolt looks for when it opens the file at path for writing and has to find its free pages:
// it does so in a goroutine of its own, and goes on there after it has told of the first fault by a panic in another.
func Check(path string) error {
	return look(path, func(t *tree, root, _ uint64) error { return t.bucket(root) })
}

// bucket checks all that is below the root page of a bucket.
func (t *tree) bucket(root uint64) error {
	_, err := t.below(root, nil, nil)
	return err
}

// below checks the page id and all that is below it. Its keys have to be least or greater, and less than bound; nil: whatever
// they like. It returns the greatest of them.
func (t *tree) below(id uint64, least, bound []byte) ([]byte, error) {
	raw, leaf, err := t.whole(id)
	if err != nil {
		return nil, err
	}
	list, err := elements(raw, leaf)
	if err != nil {
		return nil, fmt.Errorf("%w: page %d: %w", ErrDamaged, id, err)
	}
	if len(list) == 0 && !leaf {
		return nil, fmt.Errorf("%w: page %d is a branch of nothing", ErrDamaged, id)
	}
	last := least
	for i := range list {
		e := &list[i]
		if order := bytes.Compare(last, e.key); i > 0 && order >= 0 || last != nil && order > 0 || bound != nil && bytes.Compare(e.key, bound) >= 0 {
			return nil, fmt.Errorf("%w: key %d of page %d is out of order", ErrDamaged, i, id)
		}
		last = e.key
		switch {
		case !leaf:
			next := bound
			if i+1 < len(list) {
				next = list[i+1].key
			}
			last, err = t.below(e.child, e.key, next)
		case e.bucket:
			err = t.value(e.value)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	return last, nil
}

// value checks the bucket that a value is.
func (t *tree) value(raw []byte) error {
	if len(raw) < boltBucketBytes {
		return fmt.Errorf("%w: a bucket of %d bytes", ErrDamaged, len(raw))
	}
	if root := binary.NativeEndian.Uint64(raw); root != 0 {
		return t.bucket(root)
	}
	raw = raw[boltBucketBytes:] // it is inline: a leaf of its own
	if len(raw) < boltPageHeader || binary.NativeEndian.Uint16(raw[8:]) != boltFlagLeaf {
		return fmt.Errorf("%w: an inline bucket that is no leaf", ErrDamaged)
	}
	list, err := elements(raw, true)
	if err != nil {
		return fmt.Errorf("%w: an inline bucket: %w", ErrDamaged, err)
	}
	for i := range list {
		if i > 0 && bytes.Compare(list[i-1].key, list[i].key) >= 0 || list[i].bucket {
			return fmt.Errorf("%w: key %d of an inline bucket is out of order", ErrDamaged, i)
		}
	}
	return nil
}

// whole reads a page with all of its overflow, once.
func (t *tree) whole(id uint64) (raw []byte, leaf bool, err error) {
	limit := min(t.pages, t.high)
	if id < firstPage || id >= limit {
		return nil, false, fmt.Errorf("%w: page %d of %d", ErrDamaged, id, limit)
	}
	head := make([]byte, boltPageHeader)
	if err := t.read(head, int64(id)*t.pageSize); err != nil {
		return nil, false, err
	}
	ne := binary.NativeEndian
	over, flags := uint64(ne.Uint32(head[12:])), ne.Uint16(head[8:])
	if ne.Uint64(head) != id || flags != boltFlagBranch && flags != boltFlagLeaf || over >= limit-id {
		return nil, false, fmt.Errorf("%w: page %d calls itself %d, of kind %#x, with %d more", ErrDamaged, id, ne.Uint64(head), flags, over)
	}
	for n := id; n <= id+over; n++ {
		if t.seen[n] {
			return nil, false, fmt.Errorf("%w: page %d is below itself or in two places", ErrDamaged, n)
		}
		t.seen[n] = true
	}
	raw = make([]byte, int64(1+over)*t.pageSize)
	return raw, flags == boltFlagLeaf, t.read(raw, int64(id)*t.pageSize)
}

// element is an entry of a page.
type element struct {
	key, value []byte
	child      uint64 // of a branch
	bucket     bool
}

// elements reads the entries of a page.
func elements(raw []byte, leaf bool) ([]element, error) {
	ne := binary.NativeEndian
	count := int(ne.Uint16(raw[10:]))
	if boltPageHeader+count*boltElement > len(raw) {
		return nil, fmt.Errorf("%d entries in %d bytes", count, len(raw))
	}
	out := make([]element, count)
	for i := range out {
		at := boltPageHeader + i*boltElement
		e, head := &out[i], raw[at:at+boltElement]
		pos, size, value := uint64(ne.Uint32(head)), uint64(ne.Uint32(head[4:])), uint64(0)
		if leaf {
			e.bucket = ne.Uint32(head)&boltFlagBucket != 0
			pos, size, value = uint64(ne.Uint32(head[4:])), uint64(ne.Uint32(head[8:])), uint64(ne.Uint32(head[12:]))
		} else {
			e.child = ne.Uint64(head[8:])
		}
		pos += uint64(at)
		if pos+size+value > uint64(len(raw)) {
			return nil, fmt.Errorf("entry %d ends at %d of %d bytes", i, pos+size+value, len(raw))
		}
		e.key, e.value = raw[pos:pos+size], raw[pos+size:pos+size+value]
	}
	return out, nil
}
