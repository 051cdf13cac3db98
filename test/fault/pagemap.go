package fault

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// stored is a value of a bbolt file with the pages that one has to read to find it.
type storedValue struct {
	value []byte
	pages []int
}

// bolt reads a bbolt file that is sound by itself, and not with the library: that tells nobody which page a value is on. A file
// that is not is read as far as it makes sense.
type bolt struct {
	raw  []byte
	page int
}

const (
	boltHeader  = 16 // of a page: id, flags, count, overflow
	boltElement = 16
	boltLeaf    = 0x02
	boltBranch  = 0x01
	boltMagic   = 0xED0CDAED
)

// newest is the meta page that counts, and the root page of its root bucket.
func (b *bolt) newest() (meta int, root uint64, ok bool) {
	ne := binary.NativeEndian
	var latest uint64
	for n := range 2 {
		at := n*b.page + boltHeader
		if at+64 > len(b.raw) || ne.Uint32(b.raw[at:]) != boltMagic || int(ne.Uint32(b.raw[at+8:])) != b.page {
			continue
		}
		if txid := ne.Uint64(b.raw[at+48:]); !ok || txid > latest {
			meta, root, latest, ok = n, ne.Uint64(b.raw[at+16:]), txid, true
		}
	}
	return meta, root, ok
}

// bucket are the values of a bucket of the root, in the order of their keys.
func (b *bolt) bucket(name string) (out []storedValue) {
	meta, root, ok := b.newest()
	if !ok {
		return nil
	}
	b.walk(root, []int{meta}, func(key, value []byte, flags uint32, pages []int) {
		if flags == 0 || !bytes.Equal(key, []byte(name)) || len(value) < boltHeader {
			return
		}
		keep := func(_, v []byte, _ uint32, pages []int) { out = append(out, storedValue{v, pages}) }
		if below := binary.NativeEndian.Uint64(value); below != 0 {
			b.walk(below, pages, keep)
		} else { // so small that it lies in the value, behind its header
			b.elements(value[boltHeader:], pages, keep)
		}
	})
	return out
}

type visit func(key, value []byte, flags uint32, pages []int)

// walk visits all values below a page; above are the pages that lead there.
func (b *bolt) walk(id uint64, above []int, each visit) {
	const deepest = 16 // a loop is none that anybody wrote
	at := int(id) * b.page
	if id > uint64(len(b.raw)/b.page) || at+b.page > len(b.raw) || len(above) > deepest {
		return
	}
	end := min(len(b.raw), at+b.page*(1+int(binary.NativeEndian.Uint32(b.raw[at+12:])%1024)))
	pages := slices.Clone(above)
	for p := at; p < end; p += b.page {
		pages = append(pages, p/b.page)
	}
	b.elements(b.raw[at:end], pages, each)
}

// elements visits what is on a page, or below it.
func (b *bolt) elements(page []byte, pages []int, each visit) {
	ne := binary.NativeEndian
	flags, count := ne.Uint16(page[8:]), int(ne.Uint16(page[10:]))
	for i := range count {
		at := boltHeader + i*boltElement
		if at+boltElement > len(page) {
			return
		}
		e := page[at:]
		switch {
		case flags&boltBranch != 0:
			b.walk(ne.Uint64(e[8:]), pages, each)
		case flags&boltLeaf != 0:
			from, key, size := at+int(ne.Uint32(e[4:])), int(ne.Uint32(e[8:])), int(ne.Uint32(e[12:]))
			if from+key+size > len(page) {
				return
			}
			each(page[from:from+key], page[from+key:from+key+size], ne.Uint32(e), pages)
		}
	}
}

// spoilt are the scrapes of an outbox.db that damage may have taken: those on a page that is not as it was, or below one, and, for who
// reads from both ends until the damage, those between two such.
func spoilt(before, after []byte) ticks {
	const page = 4096
	same := func(p int) bool {
		from, to := min(p*page, len(before)), min((p+1)*page, len(before))
		return to <= len(after) && bytes.Equal(before[from:to], after[from:to])
	}
	values := (&bolt{raw: before, page: page}).bucket("tele")
	hit := func(v storedValue) bool { return slices.ContainsFunc(v.pages, func(p int) bool { return !same(p) }) }
	first := slices.IndexFunc(values, hit)
	out := ticks{}
	for i, last := first, first; i >= 0 && i < len(values); i++ {
		if !hit(values[i]) {
			continue
		}
		for ; last <= i; last++ {
			held, _ := hotHolds(values[last].value)
			for n := range held {
				out[n] = true
			}
		}
	}
	return out
}
