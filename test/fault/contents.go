package fault

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// What a file holds before it is damaged, and what can still be read of it afterwards: the difference is all that the
// damage may have taken.

// logHeld is what the telemetry's log holds: the samples of the accounting, and of these those that the log of late ones has. The
// other has them too, but an opening takes late ones from their own.
type logHeld struct{ all, late account.Samples }

// without are the samples that may be gone: in neither log any more, or not in that of the late ones.
func (h logHeld) without(o logHeld) account.Samples {
	out := h.all.Without(o.all)
	for node, values := range h.late.Without(o.late) {
		for v := range values {
			out.Add(node, v)
		}
	}
	return out
}

// logHolds reads what the telemetry's log in dir holds, as an opening of it would find it: each segment up to the first record that
// cannot be read. whole tells that there was none such.
func logHolds(dir string) (held logHeld, whole bool, err error) {
	held, whole = logHeld{account.Samples{}, account.Samples{}}, true
	read := &logReader{dec: record.NewDecoder(labels.NewSymbolTable(), slog.New(slog.DiscardHandler)), series: map[chunks.HeadSeriesRef]labels.Labels{}, into: []account.Samples{held.all}}
	checkpoint, _, err := wlog.LastCheckpoint(filepath.Join(dir, "wal"))
	if err != nil && !errors.Is(err, record.ErrNotFound) {
		return held, false, err
	}
	for _, part := range []string{checkpoint, filepath.Join(dir, "wal"), filepath.Join(dir, "wbl")} {
		if part == "" {
			continue
		}
		list, err := filepath.Glob(filepath.Join(part, "[0-9]*[0-9]"))
		if err != nil {
			return held, false, err
		}
		if filepath.Base(part) == "wbl" {
			read.into = append(read.into, held.late)
		}
		slices.Sort(list)
		for _, path := range list {
			good, err := read.segment(path)
			if err != nil {
				return held, false, fmt.Errorf("read log %s: %w", path, err)
			}
			whole = whole && good
		}
	}
	return held, whole, nil
}

type logReader struct {
	dec    record.Decoder
	series map[chunks.HeadSeriesRef]labels.Labels
	into   []account.Samples
}

// segment reads a segment; whole tells that it ends where a record does.
func (l *logReader) segment(path string) (whole bool, err error) {
	seg, err := wlog.OpenReadSegment(path)
	if err != nil {
		return false, err
	}
	r := wlog.NewSegmentBufReader(seg)
	defer r.Close()
	records := wlog.NewReader(r)
	for records.Next() {
		switch rec := records.Record(); l.dec.Type(rec) {
		case record.Series:
			list, err := l.dec.Series(rec, nil)
			if err != nil {
				return false, nil // its checksum is right: nobody can read it
			}
			for _, s := range list {
				l.series[s.Ref] = s.Labels
			}
		case record.Samples:
			list, err := l.dec.Samples(rec, nil)
			if err != nil {
				return false, nil
			}
			for _, s := range list {
				if name := l.series[s.Ref].Get("__name__"); name == tickSeries || account.IsSeries(name) {
					for _, into := range l.into {
						into.Add(l.series[s.Ref].Get("node"), s.V)
					}
				}
			}
		}
	}
	return records.Err() == nil, nil
}

// ticks are numbers of a node agent's scrapes.
type ticks map[int]bool

func (t ticks) addBatch(payload []byte) {
	var b api.Batch
	if json.Unmarshal(payload, &b) != nil {
		return
	}
	at := slices.Index(b.Series, tickSeries)
	for _, row := range b.Rows {
		if at >= 0 && at < len(row.Values) && !math.IsNaN(row.Values[at]) {
			t[int(row.Values[at])] = true
		}
	}
}

// hotHolds reads what of outbox.hot can be read: frames as edge/outbox writes them, a header of 76 bytes with the length and
// the CRC-32C of the payload in it, and a CRC-32C of its own at its end. whole tells that there is nothing else.
func hotHolds(raw []byte) (out ticks, whole bool) {
	const header, size, sum, own = 76, 64, 68, 72
	table := crc32.MakeTable(crc32.Castagnoli)
	out, whole = ticks{}, true
	for len(raw) > 0 {
		le := binary.LittleEndian
		if len(raw) < header || !bytes.HasPrefix(raw, []byte("SK")) || le.Uint32(raw[own:]) != crc32.Checksum(raw[:own], table) {
			raw, whole = raw[1:], false
			continue
		}
		end := header + int(le.Uint32(raw[size:]))
		if end > len(raw) {
			return out, false
		}
		if payload := raw[header:end]; crc32.Checksum(payload, table) != le.Uint32(raw[sum:]) {
			whole = false
		} else {
			out.addBatch(payload)
		}
		raw = raw[end:]
	}
	return out, whole
}

// dbHolds reads what outbox.db holds, from a copy: reading it must not touch it. Of one that an earlier fault damaged, and
// that a full disk kept from being mended, it reads what it can.
func dbHolds(path string) (out ticks, err error) {
	out = ticks{}
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if recover() != nil { // bbolt met a damaged page
			err = nil
		}
	}()
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "skfault-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	copied := filepath.Join(dir, outboxFile)
	if err := os.WriteFile(copied, raw, 0o600); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(copied, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil { // it is damaged
		return out, nil
	}
	err = db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("tele"))
		if b == nil {
			return nil
		}
		return b.ForEach(func(_, frame []byte) error {
			held, _ := hotHolds(frame)
			for n := range held {
				out[n] = true
			}
			return nil
		})
	})
	return out, errors.Join(err, db.Close())
}

// outboxFile is where a node agent has its backlog that is to survive a restart.
const outboxFile = "outbox.db"

// contents is what a file held, and what of it is left.
type contents struct {
	log   logHeld // the telemetry's
	ticks ticks   // of an outbox; not of an outbox.db that is damaged
	raw   []byte  // outbox.db itself
	whole bool    // nobody can see that something is missing
}

// look reads the contents of a victim as far as the accounting needs them.
func look(tier, path string, damaged bool) (c contents, err error) {
	switch name := filepath.Base(path); {
	case tier == tierCluster:
		c.log, c.whole, err = logHolds(filepath.Dir(filepath.Dir(path)))
	case name == "outbox.hot":
		var raw []byte
		if raw, err = os.ReadFile(path); err == nil {
			c.ticks, c.whole = hotHolds(raw)
		}
	case name == outboxFile:
		if c.raw, err = os.ReadFile(path); err == nil && !damaged {
			c.ticks, err = dbHolds(path)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("look into %s of %s: %w", strings.TrimPrefix(path, "/"), tier, err)
	}
	return c, err
}
