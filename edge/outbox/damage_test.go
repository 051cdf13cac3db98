package outbox

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/skerry-edge/skerry/api"
)

// stocked returns a device with n batches and n events in flash, and nothing in the hot tier.
func stocked(t *testing.T, c *fakeCluster, n int) *device {
	t.Helper()
	d := newDevice(t, c)
	o := d.open()
	for i := range n {
		d.putBatch(o, 1+i%40, "node_load1", "node_load5")
		if err := o.PutEvent(api.ClassEvent, "test.happened", "", id(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	return d
}

// survives opens the outbox over whatever is in flash and checks that what is missing is admitted.
func survives(t *testing.T, d *device, c *fakeCluster, events int) Stats {
	t.Helper()
	o := d.open()
	drain(t, d, o, c)
	b, st := o.Backlog(), o.Stats()
	missing, missingEvents := uint64(0), uint64(0)
	for v := 1.0; v <= d.next; v++ {
		if _, ok := c.samples[v]; !ok {
			missing++
		}
	}
	for i := range events {
		if _, ok := c.events[id(i)]; !ok {
			missingEvents++
		}
	}
	if missing != b.Dropped.Samples || missingEvents != b.Dropped.Events {
		if st.Unreadable == 0 || missing > st.Unreadable {
			t.Errorf("%d samples, %d events missing; reported %+v %+v", missing, missingEvents, b.Dropped, st)
		}
	}
	if st.Corruptions > 0 {
		told := false
		for msg := range c.events {
			told = told || strings.Contains(msg, "damaged outbox.db")
		}
		if !told {
			t.Errorf("damage was not reported: %d events", len(c.events))
		}
	}
	o.abandon()
	return st
}

func TestDamagedFlashNeverPreventsStart(t *testing.T) {
	page, branches := os.Getpagesize(), 0
	edits := map[string]func(raw []byte) []byte{
		"empty":            func([]byte) []byte { return nil },
		"text":             func([]byte) []byte { return []byte(strings.Repeat("not a database ", 5000)) },
		"both metas gone":  func(raw []byte) []byte { clear(raw[:2*page]); return raw },
		"first meta gone":  func(raw []byte) []byte { clear(raw[:page]); return raw },
		"second meta gone": func(raw []byte) []byte { clear(raw[page : 2*page]); return raw },
		"cut to one page":  func(raw []byte) []byte { return raw[:page] },
		"cut in half":      func(raw []byte) []byte { return raw[:len(raw)/2] },
		"cut after metas":  func(raw []byte) []byte { return raw[:2*page] },
		"all ones":         func(raw []byte) []byte { return []byte(strings.Repeat("\xff", len(raw))) },
	}
	for p := 2; p < 40; p++ {
		edits[fmt.Sprintf("page %d zeroed", p)] = func(raw []byte) []byte {
			if (p+1)*page <= len(raw) {
				clear(raw[p*page : (p+1)*page])
			}
			return raw
		}
		edits[fmt.Sprintf("page %d points to itself", p)] = func(raw []byte) []byte {
			if (p+1)*page <= len(raw) && raw[p*page+8]&1 != 0 { // a branch page: each child becomes the page itself
				for e := range int(binary.LittleEndian.Uint16(raw[p*page+10:])) {
					binary.LittleEndian.PutUint64(raw[p*page+16+e*16+8:], uint64(p))
				}
				branches++
			}
			return raw
		}
	}
	salvaged := 0
	defer func() {
		if branches == 0 {
			t.Error("no branch page was met")
		}
	}()
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFakeCluster()
				d := stocked(t, c, 120)
				raw, err := os.ReadFile(dbPath(d))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(dbPath(d), edit(raw), 0o600); err != nil {
					t.Fatal(err)
				}
				st := survives(t, d, c, 120)
				if st.Corruptions > 0 && len(c.samples) > int(d.next)/2 {
					salvaged++
				}
				aside, err := filepath.Glob(dbPath(d) + ".corrupt-*")
				if err != nil || name != "empty" && len(aside) != int(min(st.Corruptions, 1)) {
					t.Errorf("set aside: %v, %v after %d corruptions", aside, err, st.Corruptions)
				}
			})
		})
	}
	if salvaged < 10 {
		t.Errorf("more than half was salvaged from %d damaged files only", salvaged)
	}
}

// TestOneBitAnywhereInFlashIsHarmless flips bits all over the file, one at a time.
func TestOneBitAnywhereInFlashIsHarmless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := stocked(t, c, 40)
		sound, err := os.ReadFile(dbPath(d))
		if err != nil {
			t.Fatal(err)
		}
		hits := 0
		for n := range 150 {
			at := (n*7919 + n*n*13) % len(sound)
			raw := append([]byte(nil), sound...)
			raw[at] ^= 1 << (n % 8)
			c := newFakeCluster()
			d.cfg.Sender = c
			d.cfg.RuntimeDir = t.TempDir()
			if err := os.WriteFile(dbPath(d), raw, 0o600); err != nil {
				t.Fatal(err)
			}
			if survives(t, d, c, 40).Corruptions > 0 {
				hits++
			}
		}
		if hits == 0 {
			t.Error("no flip was noticed")
		}
	})
}

// TestABitInAKeyLosesItsRecordAlone has a key say that its record is the last by far: that ended both passes of the rescue.
func TestABitInAKeyLosesItsRecordAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := stocked(t, c, 40)
		raw, err := os.ReadFile(dbPath(d))
		if err != nil {
			t.Fatal(err)
		}
		const rows = 5 // of the fifth batch
		good := append(key{1, rows}.bytes(), "SK"...)
		bad := append(key{1, 1<<60 | rows}.bytes(), "SK"...)
		if !bytes.Contains(raw, good) {
			t.Fatal("no such record")
		}
		if err := os.WriteFile(dbPath(d), bytes.ReplaceAll(raw, good, bad), 0o600); err != nil {
			t.Fatal(err)
		}
		o := d.open()
		drain(t, d, o, c)
		if got := o.Backlog().Dropped; got.Batches != 1 || got.Samples != 2*rows {
			t.Errorf("lost are %+v; wanted one batch of %d samples", got, 2*rows)
		}
		o.abandon()
	})
}

// TestImpossibleFreelistIsNotBelieved has the freelist claim more pages than there are: bbolt would allocate them all.
func TestImpossibleFreelistIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := stocked(t, c, 20)
		raw, err := os.ReadFile(dbPath(d))
		if err != nil {
			t.Fatal(err)
		}
		page, hit := os.Getpagesize(), 0
		for p := 2; (p+1)*page <= len(raw); p++ {
			if at := raw[p*page:]; at[8] == 0x10 { // a freelist page
				binary.NativeEndian.PutUint16(at[10:], 0xFFFF)
				binary.NativeEndian.PutUint64(at[16:], 1<<40)
				hit++
			}
		}
		if err := os.WriteFile(dbPath(d), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if st := survives(t, d, c, 20); hit == 0 || st.Corruptions != 1 {
			t.Errorf("%d freelist pages, stats %+v", hit, st)
		}
	})
}

func TestCrashLoopOverDamageEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := stocked(t, c, 20)
		// Three starts died while they read outbox.db.
		if err := os.WriteFile(filepath.Join(d.cfg.RuntimeDir, "outbox.opening"), []byte("3"), 0o600); err != nil {
			t.Fatal(err)
		}
		if st := survives(t, d, c, 20); st.Corruptions != 1 {
			t.Errorf("stats %+v; wanted the file set aside", st)
		}
		if _, err := os.Stat(filepath.Join(d.cfg.RuntimeDir, "outbox.opening")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the count of openings stayed: %v", err)
		}
	})
}

// TestWhatDamageTookIsToldInItsEvent damages the payload of the last record of the hot file: its header tells what it was.
func TestWhatDamageTookIsToldInItsEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		o := d.open()
		for range 5 {
			d.putBatch(o, 3, "node_load1")
		}
		o.abandon()
		path := filepath.Join(d.cfg.RuntimeDir, "outbox.hot")
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)-5] ^= 1
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		o = d.open()
		var told map[string]string
		for i := range o.hot.index[events] {
			r, err := o.hot.read(&o.hot.index[events][i])
			var e api.Event
			if err == nil {
				err = json.Unmarshal(r.payload, &e)
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == "outbox.torn" {
				told = e.Data
			}
		}
		if told["lost_batches"] != "1" || told["lost_samples"] != "3" || told["lost_events"] != "0" || o.Backlog().Dropped.Batches != 1 {
			t.Errorf("told %v, dropped %+v; wanted a batch of 3 samples", told, o.Backlog().Dropped)
		}
		o.abandon()
	})
}

func TestFlashDamagedUnderARunningAgentIsSalvaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := stocked(t, c, 120)
		o := d.open()
		raw, err := os.ReadFile(dbPath(d))
		if err != nil {
			t.Fatal(err)
		}
		page, hit := os.Getpagesize(), 0
		for p := 3; (p+1)*page <= len(raw); p++ {
			at := raw[p*page : (p+1)*page]
			leaf, records := at[8] == 2 && at[9] == 0, binary.LittleEndian.Uint32(at[16+8:]) == 16 // the first key's length
			if hit < 3 && leaf && records {
				clear(at)
				hit++
			}
		}
		f, err := os.OpenFile(dbPath(d), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(raw, 0); err != nil { // the same file, under its mapping
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		drain(t, d, o, c)
		missing := uint64(0)
		for v := 1.0; v <= d.next; v++ {
			if _, ok := c.samples[v]; !ok {
				missing++
			}
		}
		b, st := o.Backlog(), o.Stats()
		if st.Corruptions == 0 || missing > b.Dropped.Samples || missing == uint64(d.next) {
			t.Errorf("%d of %v samples missing, dropped %+v, %+v", missing, d.next, b.Dropped, st)
		}
		o.abandon()
	})
}
