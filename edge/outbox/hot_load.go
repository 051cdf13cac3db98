package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// found is what a hot file told besides its records.
type found struct {
	state   state
	fresh   bool            // there was no file
	acks    map[lane]uint64 // acknowledged, also where the flash tier was not yet told
	torn    int             // damaged stretches
	lost    []meta          // records whose payload is damaged: the header still counts them
	unknown int64           // bytes in which not even a header could be read
}

// openHot opens or creates the file at path and reads it. What is damaged is left out and told.
func openHot(path string) (*hot, *found, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	}
	h := &hot{path: path, file: f, idle: idleHotBytes}
	fd, err := h.restore(f)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read %s: %w", path, err), f.Close())
	}
	return h, fd, nil
}

func (h *hot) restore(f *os.File) (*found, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	fd := &found{fresh: info.Size() == 0, acks: map[lane]uint64{}}
	limit := min(info.Size(), maxHotFile)
	raw := make([]byte, limit)
	if _, err := io.ReadFull(f, raw); err != nil {
		return nil, err
	}
	h.size = decodeHot(raw, fd, h.replay)
	h.room = firstStates(raw)
	fd.unknown += info.Size() - limit
	if h.size < info.Size() {
		if err := f.Truncate(h.size); err != nil {
			return nil, err
		}
	}
	return fd, nil
}

// maxHotFile is how much of a hot file is ever read: far above any bound that the configuration allows to be useful.
const maxHotFile = 64 << 20

// decodeHot reads the records of raw, hands the good ones to keep, and counts the damaged ones in fd. It returns the
// length up to which raw holds records that can be read again.
func decodeHot(raw []byte, fd *found, keep func(r *record, off int64)) int64 {
	end, bad := 0, -1 // bad: where the current unreadable stretch began
	for off := 0; off < len(raw); {
		r, err := parseRecord(raw[off:])
		if errors.Is(err, errHeader) || err != nil && r.kind == 0 {
			if bad < 0 {
				bad = off
			}
			off++ // the next magic may be anywhere
			continue
		}
		if bad >= 0 {
			fd.torn++
			fd.unknown += int64(off - bad)
			bad = -1
		}
		next := off + int(r.bytes())
		switch {
		case err != nil:
			fd.torn++
			fd.lost = append(fd.lost, r.meta)
		case r.kind == kindState:
			fd.addState(r.payload)
		case r.kind == kindAck:
			l := lane{r.class.stream(), r.epoch}
			fd.acks[l] = max(fd.acks[l], r.seq)
			fd.excuse(func(m *meta) bool { return m.class.stream() == l.stream && m.epoch == l.epoch && m.seq <= r.seq })
			keep(&r, int64(off))
		case r.kind == kindGone:
			fd.excuse(func(m *meta) bool { return m.class.stream() == r.class.stream() && m.key == r.key })
			keep(&r, int64(off))
		default:
			keep(&r, int64(off))
		}
		off = next
		if err == nil {
			end = next
		}
	}
	if bad >= 0 {
		fd.torn++
		fd.unknown += int64(len(raw) - bad)
	}
	return int64(end)
}

func (fd *found) addState(payload []byte) {
	var st state
	if json.Unmarshal(payload, &st) == nil { // its checksum was right: only another version could fail here
		fd.state = newest(fd.state, st)
	}
}

// excuse takes out of the losses what was not needed any more.
func (fd *found) excuse(done func(m *meta) bool) {
	fd.lost = slices.DeleteFunc(fd.lost, func(m meta) bool { return done(&m) })
}
