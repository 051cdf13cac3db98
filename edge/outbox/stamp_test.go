package outbox

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// hinted is a device whose clock nothing disciplines, with a cluster agent that tells it the time.
func hinted(t *testing.T, c *fakeCluster) *device {
	d := newDevice(t, c)
	d.quality, d.skew = api.TimeFloor, -30*24*time.Hour
	d.cfg.Timed = d.cfg.Clock.Told
	return d
}

func TestNothingGoesOutBeforeTheSessionWasToldTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := hinted(t, c)
		o := d.open()
		measured := time.Now()
		b := d.putBatch(o, 1, "a")
		d.connect(o)
		time.Sleep(5 * time.Second)
		if n := pump(o); n != 0 {
			t.Fatalf("%d sent with a stamp that is wrong", n)
		}
		d.cfg.Clock.Word(d.epoch, time.Now())
		o.TimeKnown()
		pump(o) // fills the bucket that paces a replay
		time.Sleep(time.Second)
		pump(o)
		if got := c.samples[b.Rows[0].Values[0]]; got != api.At(measured) {
			t.Errorf("measured at %v, stamped %v", measured, got.Time())
		}
		c.ack(o)
		o.Disconnected()
		d.connect(o)
		d.putBatch(o, 1, "a")
		time.Sleep(timeWait)
		if n := pump(o); n != 1 {
			t.Errorf("%d sent to a cluster agent that tells no time; wanted 1 after %s", n, timeWait)
		}
		o.abandon()
	})
}

func TestWhatWasStampedByAWrongHintIsStampedAnewUnlessItWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := hinted(t, c)
		o := d.open()
		d.connect(o)
		const ahead = 24 * time.Hour
		d.cfg.Clock.Word(d.epoch, time.Now().Add(ahead))
		c.fate = func() fate { return fateUnsure }
		at := time.Now()
		sent := d.putBatch(o, 1, "a")
		pump(o)
		o.Disconnected()
		time.Sleep(3 * time.Second)
		waiting, measured := d.putBatch(o, 1, "a"), time.Now()

		c.fate = nil
		for range 2 { // the second time all of it comes again
			d.connect(o)
			d.cfg.Clock.Word(d.epoch, time.Now().Add(100*time.Millisecond))
			for range 3 {
				time.Sleep(time.Second)
				pump(o)
			}
			if got, want := c.samples[sent.Rows[0].Values[0]], api.At(at.Add(ahead)); got != want {
				t.Errorf("sent before at %v, stamped %v; wanted the stamp that it had", want.Time(), got.Time())
			}
			got := c.samples[waiting.Rows[0].Values[0]].Time()
			if off := got.Sub(measured); off < 0 || off > time.Second {
				t.Errorf("measured at %v, stamped %v", measured, got)
			}
			o.Disconnected()
			c.forget()
			clear(c.samples)
		}
		o.abandon()
	})
}
