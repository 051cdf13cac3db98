package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// appendState appends st twice: a flipped bit must not make a counter fall. With room each takes so many bytes, and with ample
// as many as leave it room to grow.
func appendState(buf []byte, st *state, room int) ([]byte, error) {
	raw, err := json.Marshal(st)
	if err == nil && room == ample {
		room = roomFor(len(raw))
	}
	if err == nil && room > 0 {
		raw, err = padState(raw, room)
	}
	if err != nil {
		return nil, fmt.Errorf("encode outbox state: %w", err)
	}
	r := &record{meta: meta{kind: kindState}, payload: raw}
	return appendRecord(appendRecord(buf, r), r), nil
}

// compact rewrites the file with nothing but st, acks and the live records, by rename.
func (h *hot) compact(st *state, acks map[lane]uint64) error {
	room := ample
	if h.volatile() {
		room = 0 // memory is never full
	}
	buf, err := appendState(nil, st, room)
	if err != nil {
		return err
	}
	if room == ample {
		room = len(buf) / 2
	}
	for l, seq := range acks {
		c := classTelemetry
		if l.stream == events {
			c = classEvent
		}
		buf = appendRecord(buf, &record{meta: meta{kind: kindAck, class: c, key: key{l.epoch, seq}}})
	}
	var index [streams][]slot
	for s := range h.index {
		index[s] = slices.Clone(h.index[s])
		for i := range index[s] {
			r, err := h.read(&index[s][i])
			if err != nil {
				return err
			}
			index[s][i].off, index[s][i].raw = int64(len(buf)), nil
			buf = appendRecord(buf, &r)
		}
	}
	var f medium = &memory{buf}
	if !h.volatile() {
		if f, err = replaceFile(h.path, buf); err != nil {
			return err
		}
	}
	old := h.file
	h.file, h.size, h.index, h.room, h.lone = f, int64(len(buf)), index, room, false
	return old.Close()
}

// replaceFile writes data beside path, moves it there and returns it open.
func replaceFile(path string, data []byte) (*os.File, error) {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("rewrite %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("rewrite %s: %w", path, err), f.Close(), os.Remove(next))
	}
	return f, nil
}
