package outbox

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/kept"
)

// keptRecords are a batch and an alarm of which every field is set, and a state.
func keptRecords(t *testing.T) (batch, alarm record, st state) {
	t.Helper()
	var b api.Batch
	kept.Fill(&b)
	b.Epoch, b.Seq, b.T0, b.TimeQuality, b.Prev, b.Historical = 3, 1, 1790000000000, api.TimeHinted, 0, false
	var e api.Event
	kept.Fill(&e)
	e.Epoch, e.Seq, e.At, e.TimeQuality, e.Class, e.Prev = 3, 2, 1790000000000, api.TimeSynced, api.ClassAlarm, 0
	pack := func(v any) []byte {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	kept.Fill(&st)
	st.Sent[0].Stream = events
	batch, alarm = record{meta: metaOfBatch(&b), payload: pack(&b)}, record{meta: meta{kind: kindEvent, class: classAlarm, quality: qualitySynced, key: key{e.Epoch, e.Seq}, at: int64(e.At),
		end: int64(e.At), mono: e.Mono, boot: bootDigest(e.Boot)}, payload: pack(&e)}
	batch.size, alarm.size = uint32(len(batch.payload)), uint32(len(alarm.payload))
	return batch, alarm, st
}

// newerState is the record of a state to which a later version has added.
func newerState(t *testing.T, payload []byte) []byte {
	t.Helper()
	return appendRecord(nil, &record{meta: meta{kind: kindState}, payload: kept.Newer(t, payload)})
}

func TestTheBacklogInFlashIsKeptInTheFormatThatWasRecorded(t *testing.T) {
	batch, alarm, st := keptRecords(t)
	c := newCold(filepath.Join(t.TempDir(), "outbox.db"))
	c.known = true
	e := edit{st: st, put: []record{batch, alarm}}
	if err := c.change(&e); err != nil {
		t.Fatal(err)
	}
	kept.Same(t, "outbox.db", kept.Dump(t, c.db))
	if err := c.rest(); err != nil {
		t.Fatal(err)
	}
	kept.Each(t, "outbox.db", func(raw []byte, today bool) {
		plain := verified(t, raw, nil, batch, alarm)
		if today && !reflect.DeepEqual(plain, e.st) {
			t.Errorf("%+v; wanted %+v", plain, e.st)
		}
		newer := verified(t, raw, func(bucket, _ string, value []byte) []byte {
			if bucket != bucketMeta {
				return value
			}
			r, err := parseRecord(value)
			if err != nil {
				t.Fatal(err)
			}
			return newerState(t, r.payload)
		}, batch, alarm)
		if !reflect.DeepEqual(newer, plain) {
			t.Errorf("with what a later version adds: %+v; wanted %+v", newer, plain)
		}
	})
}

// verified is the state of a file that was recorded, which has to hold want.
func verified(t *testing.T, dump []byte, alter func(bucket, key string, value []byte) []byte, want ...record) state {
	t.Helper()
	path := filepath.Join(t.TempDir(), "outbox.db")
	kept.Restore(t, path, dump, alter)
	c := newCold(path)
	st, err := c.verify()
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if r, err := c.load(&want[i].meta); err != nil || r.kind != want[i].kind || len(r.payload) == 0 {
			t.Errorf("%+v, %v; wanted %+v", r, err, want[i])
		}
	}
	if err := c.rest(); err != nil {
		t.Error(err)
	}
	return st
}

// TestTheFileInMemoryIsKeptInTheFormatThatWasRecorded: the program after an update takes it up.
func TestTheFileInMemoryIsKeptInTheFormatThatWasRecorded(t *testing.T) {
	batch, alarm, st := keptRecords(t)
	raw, err := appendState(nil, &st, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []record{batch, alarm, {meta: meta{kind: kindAck, class: classTelemetry, key: key{3, 1}}}, {meta: meta{kind: kindGone, class: classAlarm, key: key{3, 2}}}}
	for i := range want {
		raw = appendRecord(raw, &want[i])
	}
	kept.Same(t, "outbox.hot", raw)
	kept.Each(t, "outbox.hot", func(raw []byte, today bool) {
		first, err := parseRecord(raw)
		if err != nil {
			t.Fatal(err)
		}
		newer := newerState(t, first.payload)
		for _, file := range [][]byte{raw, append(newer, raw[2*first.bytes():]...)} {
			var got []record
			fd := &found{acks: map[lane]uint64{}}
			end := decodeHot(file, fd, func(r *record, _ int64) { got = append(got, *r) })
			if end != int64(len(file)) || fd.torn > 0 || fd.unknown > 0 || today && !reflect.DeepEqual(fd.state, st) || fd.acks[lane{tele, 3}] != 1 || len(got) != len(want) {
				t.Fatalf("%d of %d bytes, %+v, %d records; wanted state %+v and %d records", end, len(file), fd, len(got), st, len(want))
			}
			for i := range want {
				if got[i].kind != want[i].kind || got[i].key != want[i].key || today && !bytes.Equal(got[i].payload, want[i].payload) {
					t.Errorf("%+v; wanted %+v", got[i], want[i])
				}
			}
		}
	})
}
