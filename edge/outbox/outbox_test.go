package outbox

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func dbPath(d *device) string  { return filepath.Join(d.cfg.Dir, "outbox.db") }
func hotPath(d *device) string { return filepath.Join(d.cfg.RuntimeDir, "outbox.hot") }

func TestFlashIsUntouchedWhileOnline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		o := d.open()
		d.connect(o)
		for n := range 1000 {
			d.putBatch(o, 2, "node_load1", "node_load5")
			if n%10 == 0 {
				if err := o.PutEvent(api.ClassEvent, "test.happened", "", id(n), nil); err != nil {
					t.Fatal(err)
				}
			}
			pump(o)
			time.Sleep(10 * time.Second) // an ack that takes its time
			c.ack(o)
		}
		pump(o)
		if _, err := os.Stat(dbPath(d)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("outbox.db exists after 1000 acknowledged batches: %v", err)
		}
		if st := o.Stats(); st.FlashBytes != 0 || st.HotFile > 4*idleHotBytes {
			t.Errorf("stats %+v: wanted no flash and a small hot file", st)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(d.cfg.Dir); err != nil || len(entries) != 0 {
			t.Errorf("clean stop with nothing unacknowledged left %v, %v in flash", entries, err)
		}
	})
}

func TestDrainedFileWithCountersIsNotTouchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		d.cfg.MaxBytes, d.cfg.HotBytes = 8<<10, 4<<10
		o := d.open()
		for range 2000 {
			d.putBatch(o, 1, "a", "b", "c")
			time.Sleep(10 * time.Second)
		}
		if o.Backlog().Dropped == (api.Dropped{}) {
			t.Fatal("nothing was dropped")
		}
		drain(t, d, o, c)
		pump(o)
		before, err := os.Stat(dbPath(d))
		if err != nil || before.Size() > 64<<10 {
			t.Fatalf("drained outbox.db: %v, %v; wanted a small file with the counters", before, err)
		}
		dropped := o.Backlog().Dropped
		for range 1000 {
			d.putBatch(o, 1, "a")
			pump(o)
			time.Sleep(time.Second)
			c.ack(o)
		}
		pump(o)
		after, err := os.Stat(dbPath(d))
		if err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
			t.Errorf("outbox.db was touched while online: %v, then %v (%v)", before, after, err)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(hotPath(d)); err != nil { // a reboot
			t.Fatal(err)
		}
		o = d.open()
		if got := o.Backlog().Dropped; got != dropped {
			t.Errorf("after a reboot %+v are counted as dropped; wanted %+v", got, dropped)
		}
		o.abandon()
	})
}

func TestLinkDownForLongSpillsInGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, newFakeCluster())
		o := d.open()
		writes, last := 0, int64(0)
		for sec := range 600 {
			if sec%10 == 0 {
				d.putBatch(o, 1, "a")
			}
			pump(o)
			if st := o.Stats(); st.FlashBytes != last {
				writes, last = writes+1, st.FlashBytes
				if sec < 59 {
					t.Fatalf("flash was written after %d s", sec)
				}
			}
			time.Sleep(time.Second)
		}
		// 60 s of patience, then one group every 30 s.
		if writes < 15 || writes > 19 {
			t.Errorf("%d writes in 10 minutes offline; wanted one every 30 s after the first minute", writes)
		}
		o.abandon()
	})
}

func TestUnsendableIsDroppedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		d.cfg.Sender = refuser{c}
		o := d.open()
		d.connect(o)
		d.putBatch(o, 1, "bad")
		d.putBatch(o, 1, "a")
		pump(o)
		c.ack(o)
		pump(o)
		if b := o.Backlog(); b.Dropped.Batches != 1 || b.Dropped.Samples != 1 || b.Batches != 0 {
			t.Errorf("backlog %+v; wanted one dropped, none held", b)
		}
		o.abandon()
	})
}

func TestWrongClockIsRestampedTheSameEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		d.quality, d.skew = api.TimeFloor, -30*24*time.Hour
		o := d.open()
		measured := time.Now()
		b := d.putBatch(o, 1, "a")
		time.Sleep(time.Minute)
		d.mu.Lock()
		d.quality, d.skew = api.TimeSynced, 0
		d.mu.Unlock()
		c.fate = func() fate { return fateUnsure }
		d.connect(o)
		for range 5 {
			time.Sleep(5 * time.Second)
			pump(o)
		}
		first, sent := c.samples[b.Rows[0].Values[0]], len(c.log)
		if first != api.At(measured) {
			t.Fatalf("measured at %v, stamped %v", measured, first.Time())
		}
		d.mu.Lock()
		d.skew = 1234 * time.Millisecond // NTP is not done yet
		d.mu.Unlock()
		o.abandon()
		o = d.open()
		c.forget()
		d.connect(o)
		for range 5 {
			time.Sleep(5 * time.Second)
			pump(o)
		}
		if again := c.samples[b.Rows[0].Values[0]]; again != first || len(c.log) == sent {
			t.Errorf("sent again with stamp %d; first %d", again, first)
		}
		o.abandon()
	})
}

func TestBatchTooLargeForAMessageIsSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		o := d.open()
		var series []string
		for n := range 4096 {
			series = append(series, fmt.Sprintf(`node_very_long_metric_name_total{device="%d"}`, n))
		}
		d.putBatch(o, 4, series...)
		drain(t, d, o, c)
		if len(c.samples) != 4*4096 {
			t.Errorf("%d samples arrived; wanted %d", len(c.samples), 4*4096)
		}
		o.abandon()
	})
}

func TestEventTooLongIsClippedNotRefused(t *testing.T) {
	d := newDevice(t, newFakeCluster())
	o := d.open()
	data := map[string]string{}
	for n := range 200 {
		data[fmt.Sprint("key", n)] = strings.Repeat("é", 300)
	}
	if err := o.PutEvent(api.ClassAlarm, "k", strings.Repeat("o", 999), strings.Repeat("ü", 5000), data); err != nil {
		t.Errorf("put a long event: %v", err)
	}
	if err := o.PutEvent(api.ClassTelemetry, "k", "", "", nil); err == nil {
		t.Error("an event of class telemetry was taken")
	}
	o.abandon()
}

func TestNoValueSurvivesTheOutbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		o := d.open()
		b := d.batch(1, "a", "b")
		b.Rows[0].Values[0] = math.NaN()
		if err := o.PutBatch(b); err != nil {
			t.Fatal(err)
		}
		drain(t, d, o, c)
		if _, ok := c.samples[b.Rows[0].Values[1]]; !ok {
			t.Error("the value beside a missing one was lost")
		}
		o.abandon()
	})
}

func TestSecondAgentIsRefused(t *testing.T) {
	d := newDevice(t, newFakeCluster())
	o := d.open()
	cfg := d.cfg
	cfg.Epoch = 99
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "another skerry-edge") {
		t.Errorf("second open: %v", err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if err := o.PutBatch(d.batch(1, "a")); !errors.Is(err, ErrClosed) {
		t.Errorf("put after close: %v", err)
	}
}

func TestConfigFaultsAreAllNamed(t *testing.T) {
	_, err := Open(Config{MaxBytes: -1})
	for _, name := range []string{"Dir", "RuntimeDir", "Epoch", "Boot", "MaxBytes", "Clock", "Sender", "Log"} {
		if err == nil || !strings.Contains(err.Error(), "outbox "+name+":") {
			t.Errorf("error %v does not name %s", err, name)
		}
	}
}

func TestOldRecordsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		d.cfg.MaxAge = 24 * time.Hour
		o := d.open()
		for range 30 {
			d.putBatch(o, 1, "a")
			pump(o)
			time.Sleep(time.Hour)
			pump(o)
		}
		b := o.Backlog()
		if b.Batches < 23 || b.Batches > 26 || b.Dropped.Batches+uint64(b.Batches) != 30 {
			t.Errorf("backlog %+v; wanted the last 24 hours of 30", b)
		}
		if age := time.Since(b.Oldest.Time()); age > 26*time.Hour {
			t.Errorf("oldest is %s old", age)
		}
		drain(t, d, o, c)
		reported := false
		for msg := range c.events {
			reported = reported || strings.Contains(msg, "gave up")
		}
		if !reported {
			t.Errorf("no outbox.dropped event among %v", c.events)
		}
		o.abandon()
	})
}

func TestReportOfDropsDoesNotFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		d.cfg.MaxBytes, d.cfg.HotBytes = 16<<10, 4<<10
		o := d.open()
		for range 3600 { // an hour of dropping every second
			d.putBatch(o, 1, "a", "b")
			pump(o)
			time.Sleep(time.Second)
		}
		if b := o.Backlog(); b.Dropped.Downsampled == 0 || b.Events > 7 {
			t.Errorf("backlog %+v; wanted drops, and at most one report in 10 minutes", b)
		}
		o.abandon()
	})
}
