package outbox

import (
	"bytes"
	"errors"
	"fmt"
)

// A file system that is full still lets a file be written where it has been written before. So the two states that a file
// begins with have room to grow in, and are written over when nothing can be appended: what is given up for want of room
// is counted in them, and a kill does not make it forgotten.

// growth is what a state may grow by, and the grain of its room.
const growth = 512

// ample is the room of a state that begins a file.
const ample = -1

// roomFor is the size of a frame that holds a state of so many bytes, and has room for more.
func roomFor(payload int) int {
	return (headerBytes + payload + 2*growth - 1) / growth * growth
}

// padState fills the payload of a state with blanks, which JSON takes at its end, up to a frame of room bytes.
func padState(raw []byte, room int) ([]byte, error) {
	if headerBytes+len(raw) > room {
		return nil, fmt.Errorf("state takes %d bytes; wanted at most %d", headerBytes+len(raw), room)
	}
	return append(raw, bytes.Repeat([]byte(" "), room-headerBytes-len(raw))...), nil
}

// firstStates is the size of each of the two states that raw begins with, 0 when it does not.
func firstStates(raw []byte) int {
	a, err := parseRecord(raw)
	if err != nil || a.kind != kindState {
		return 0
	}
	b, err := parseRecord(raw[a.bytes():])
	if err != nil || b.kind != kindState || b.size != a.size {
		return 0
	}
	return int(a.bytes())
}

// save writes st: at the end of the file, or, when there is no room, over the two that it begins with, one after the
// other, so that one of them is whole at any time.
func (h *hot) save(st *state) error {
	err := h.change(&edit{st: *st})
	if err == nil || h.room == 0 {
		return err
	}
	buf, ferr := appendState(nil, st, h.room)
	if ferr != nil {
		return errors.Join(err, ferr)
	}
	for at := 0; at < len(buf); at += h.room {
		if _, werr := h.file.WriteAt(buf[at:at+h.room], int64(at)); werr != nil {
			return errors.Join(err, fmt.Errorf("write over %s: %w", h.path, werr))
		}
	}
	return nil
}
