package outbox

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func TestReplayIsPacedAndInterleavedWithLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		d.cfg.ReplayBytesPerSecond = 4 << 10
		o := d.open()
		for range 400 { // about 200 KiB
			d.putBatch(o, 20, "a", "b")
		}
		total := o.Backlog().Bytes
		d.connect(o)
		start := time.Now()
		slowest := time.Duration(0)
		for n := 0; ; n++ {
			if n%20 == 0 {
				before := len(c.log)
				b := d.putBatch(o, 1, "a")
				at := time.Now()
				pump(o)
				if _, ok := c.samples[b.Rows[0].Values[0]]; !ok || len(c.log) == before {
					t.Fatal("live data waited for the replay")
				}
				slowest = max(slowest, time.Since(at))
			}
			pump(o)
			c.ack(o)
			if o.Backlog().Batches == 0 {
				break
			}
			if time.Since(start) > time.Hour {
				t.Fatalf("replay starved: %+v", o.Backlog())
			}
			time.Sleep(100 * time.Millisecond)
		}
		took := time.Since(start).Seconds()
		want := float64(total) / float64(d.cfg.ReplayBytesPerSecond)
		if took < want*0.9 || took > want*1.2 {
			t.Errorf("replay of %d bytes took %.1f s; wanted about %.1f s", total, took, want)
		}
		live := d.epoch
		for _, m := range c.log {
			if m.historical != (m.lane.epoch != live) {
				t.Fatalf("batch of epoch %d marked historical=%v in session %d", m.lane.epoch, m.historical, live)
			}
		}
		o.abandon()
	})
}

func TestReplayIsInOrderWithinAnEpochAndOldestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		o := d.open()
		for range 5 {
			for range 20 {
				d.putBatch(o, 1, "a")
				time.Sleep(5 * time.Second)
				pump(o)
			}
			o.Disconnected()
			o.abandon()
			o = d.open()
		}
		drain(t, d, o, c)
		if !slices.IsSortedFunc(c.log, func(a, b sentMessage) int {
			if a.lane.stream != b.lane.stream {
				return 0
			}
			return compareKeys(key{a.lane.epoch, a.seq}, key{b.lane.epoch, b.seq})
		}) {
			t.Errorf("backlog was sent out of order: %v", c.log)
		}
		o.abandon()
	})
}

func TestUnacknowledgedIsSentAgainFromTheLowest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		o := d.open()
		d.connect(o)
		for range 3 {
			d.putBatch(o, 1, "a")
		}
		c.fate = func() fate { // the first goes astray behind the broker
			c.fate = nil
			return fateLost
		}
		pump(o)
		c.ack(o)
		if len(c.samples) != 0 {
			t.Fatal("batches after a gap were stored")
		}
		time.Sleep(23 * time.Second) // 30 s less a fifth of jitter
		if n := pump(o); n != 0 {
			t.Fatalf("%d sent again before the ack timeout", n)
		}
		time.Sleep(14 * time.Second)
		if n := pump(o); n != 3 {
			t.Fatalf("%d sent after the ack timeout; wanted all 3 from the lowest", n)
		}
		seqs := []uint64{}
		for _, m := range c.log[len(c.log)-3:] {
			seqs = append(seqs, m.seq, m.prev)
		}
		if want := []uint64{1, 0, 2, 1, 3, 2}; !slices.Equal(seqs, want) {
			t.Errorf("seq and prev sent again: %v, wanted %v", seqs, want)
		}
		c.ack(o)
		if b := o.Backlog(); b.Batches != 0 || len(c.samples) != 3 {
			t.Errorf("after the ack: %+v, %d samples stored", b, len(c.samples))
		}
		o.abandon()
	})
}

func TestWindowBoundsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &heldSender{}
		d := newDevice(t, s)
		o := d.open()
		for range 20 {
			d.putBatch(o, 1, "a")
		}
		pump(o) // the pace begins to count
		time.Sleep(time.Second)
		d.connect(o)
		for range 20 {
			d.putBatch(o, 1, "a")
		}
		pump(o)
		if len(s.done) != 8 {
			t.Fatalf("%d under way; wanted the window of 8", len(s.done))
		}
		s.done[0](nil)
		s.done[1](errors.New("late"))
		o.Disconnected()
		for _, done := range s.done[2:] {
			done(errors.New("link lost")) // of the session before: must not count in the next
		}
		s.done = nil
		d.connect(o)
		time.Sleep(time.Second)
		pump(o)
		if len(s.done) != 4 { // all of it is backlog now, which gets half of the window
			t.Errorf("%d under way in the new session; wanted 4", len(s.done))
		}
		o.abandon()
	})
}

func TestPauseHoldsTelemetryBackAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		o := d.open()
		d.connect(o)
		d.putBatch(o, 1, "a")
		pump(o)
		if len(c.log) != 1 {
			t.Fatalf("%d messages sent; wanted the batch", len(c.log))
		}
		o.Ack(&api.Ack{PauseMillis: 15_000})
		d.putBatch(o, 1, "a")
		if err := o.PutEvent(api.ClassEvent, "k", "", "m", nil); err != nil {
			t.Fatal(err)
		}
		pump(o)
		if len(c.log) != 2 || c.log[1].lane.stream != events {
			t.Fatalf("during the pause %d messages were sent, the last of stream %d; wanted the event alone", len(c.log)-1, c.log[len(c.log)-1].lane.stream)
		}
		time.Sleep(19 * time.Second) // the pause and its jitter
		pump(o)
		if n := len(c.log) - 2; n != 2 {
			t.Fatalf("after the pause %d batches were sent; wanted both, the one that was not stored too", n)
		}
		c.ack(o)
		if b := o.Backlog(); b.Batches != 0 {
			t.Errorf("%+v left after the ack", b)
		}
		o.abandon()
	})
}
