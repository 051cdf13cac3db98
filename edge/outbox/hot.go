package outbox

import (
	"errors"
	"fmt"
	"slices"
)

// hot is the tier in memory that outlives the process: an append-only file on a tmpfs. A record is in it as soon as
// write(2) returned, so a kill -9 loses nothing and no fsync is needed. Not for concurrent use.
type hot struct {
	path  string
	file  medium
	idle  int64           // how much of it may be dead before it is rewritten
	size  int64           // of the file
	live  int64           // bytes of the records in index
	room  int             // of each of the two states that the file begins with; 0: it does not
	index [streams][]slot // ordered by key
	lone  bool            // some may be in memory alone
}

func compareSlot(a slot, k key) int { return compareKeys(a.key, k) }

// slot is a record in the file, or, when raw is set, in memory alone, for want of room in the file.
type slot struct {
	meta
	off int64
	raw []byte
}

// replay applies a record that was read from the file.
func (h *hot) replay(r *record, off int64) {
	s := r.class.stream()
	switch r.kind {
	case kindAck:
		h.forget(lane{s, r.epoch}, r.seq)
	case kindGone:
		h.remove(s, r.key)
	default:
		h.insert(slot{meta: r.meta, off: off})
	}
}

func (h *hot) insert(sl slot) {
	s := sl.class.stream()
	i, had := slices.BinarySearchFunc(h.index[s], sl.key, compareSlot)
	h.live += sl.bytes()
	if had {
		h.live -= h.index[s][i].bytes()
		h.index[s][i] = sl
		return
	}
	h.index[s] = slices.Insert(h.index[s], i, sl)
}

func (h *hot) remove(s stream, k key) {
	i, had := slices.BinarySearchFunc(h.index[s], k, compareSlot)
	if had {
		h.live -= h.index[s][i].bytes()
		h.index[s] = slices.Delete(h.index[s], i, i+1)
	}
}

// forget drops the records of l up to seq from the index and returns how many there were.
func (h *hot) forget(l lane, seq uint64) int {
	before := len(h.index[l.stream])
	h.index[l.stream] = slices.DeleteFunc(h.index[l.stream], func(sl slot) bool {
		gone := sl.epoch == l.epoch && sl.seq <= seq
		if gone {
			h.live -= sl.bytes()
		}
		return gone
	})
	return before - len(h.index[l.stream])
}

// ack notes in the file that l is acknowledged up to seq, and forgets the records.
func (h *hot) ack(l lane, seq uint64) error {
	c := classTelemetry
	if l.stream == events {
		c = classEvent
	}
	h.forget(l, seq)
	_, err := h.append(appendRecord(nil, &record{meta: meta{kind: kindAck, class: c, key: key{l.epoch, seq}}}))
	return err
}

// append writes frames at the end of the file and returns where. A short write is undone.
func (h *hot) append(frames []byte) (off int64, err error) {
	off = h.size
	n, err := h.file.WriteAt(frames, off)
	if err != nil {
		if n > 0 {
			err = errors.Join(err, h.file.Truncate(off))
		}
		return 0, fmt.Errorf("append to %s: %w", h.path, err)
	}
	h.size += int64(n)
	return off, nil
}

// add keeps one new record.
func (h *hot) add(r *record) error {
	off, err := h.append(appendRecord(nil, r))
	if err == nil {
		h.insert(slot{meta: r.meta, off: off})
	}
	return err
}

// addAlone keeps one new record in memory. It is gone with the process.
func (h *hot) addAlone(r *record) {
	h.insert(slot{meta: r.meta, raw: appendRecord(nil, r)})
	h.lone = true
}

// alone is what is in memory alone.
func (h *hot) alone() (t tally) {
	if !h.lone {
		return t
	}
	for s := range h.index {
		for i := range h.index[s] {
			if sl := &h.index[s][i]; sl.raw != nil {
				t.add(&sl.meta)
			}
		}
	}
	return t
}

func (h *hot) held() int64 { return h.live }

func (h *hot) scan(s stream, from key, fn func(meta) bool) error {
	i, _ := slices.BinarySearchFunc(h.index[s], from, compareSlot)
	for ; i < len(h.index[s]); i++ {
		if !fn(h.index[s][i].meta) {
			break
		}
	}
	return nil
}

func (h *hot) load(m *meta) (record, error) {
	s := m.class.stream()
	i, had := slices.BinarySearchFunc(h.index[s], m.key, compareSlot)
	if !had {
		return record{}, fmt.Errorf("read %s: epoch %d seq %d is not there", h.path, m.epoch, m.seq)
	}
	return h.read(&h.index[s][i])
}

func (h *hot) read(sl *slot) (record, error) {
	raw := sl.raw
	if raw == nil {
		raw = make([]byte, sl.bytes())
		if _, err := h.file.ReadAt(raw, sl.off); err != nil {
			return record{}, fmt.Errorf("read %s at %d: %w", h.path, sl.off, err)
		}
	}
	r, err := parseRecord(raw)
	if err != nil {
		return record{}, fmt.Errorf("read %s at %d: %w", h.path, sl.off, err)
	}
	return r, nil
}

// change writes the edit in one write. The state goes first: what is counted twice after a crash between is better than
// what is not counted.
func (h *hot) change(e *edit) error {
	frames, err := appendState(nil, &e.st, 0)
	if err != nil {
		return err
	}
	offs := make([]int64, len(e.put))
	for i := range e.put {
		offs[i] = h.size + int64(len(frames))
		frames = appendRecord(frames, &e.put[i])
	}
	for i := range e.del {
		m := &e.del[i]
		frames = appendRecord(frames, &record{meta: meta{kind: kindGone, class: m.class, key: m.key}})
	}
	if _, err := h.append(frames); err != nil {
		return err
	}
	for i := range e.put {
		h.insert(slot{meta: e.put[i].meta, off: offs[i]})
	}
	for i := range e.del {
		h.remove(e.del[i].class.stream(), e.del[i].key)
	}
	return nil
}

func (h *hot) find(m *meta) (int, bool) {
	return slices.BinarySearchFunc(h.index[m.class.stream()], m.key, compareSlot)
}

// has reports whether the record is here.
func (h *hot) has(m *meta) bool {
	_, had := h.find(m)
	return had
}

// first returns the lowest seq of l, the greatest number without one.
func (h *hot) first(l lane) uint64 {
	i, _ := slices.BinarySearchFunc(h.index[l.stream], key{l.epoch, 0}, compareSlot)
	if i < len(h.index[l.stream]) && h.index[l.stream][i].epoch == l.epoch {
		return h.index[l.stream][i].seq
	}
	return ^uint64(0)
}

// before returns the record of l with the greatest seq below seq, 0 without one.
func (h *hot) before(l lane, seq uint64) uint64 {
	i, _ := slices.BinarySearchFunc(h.index[l.stream], key{l.epoch, seq}, compareSlot)
	if i > 0 && h.index[l.stream][i-1].epoch == l.epoch {
		return h.index[l.stream][i-1].seq
	}
	return 0
}
