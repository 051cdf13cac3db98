package outbox

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// unheard is a cluster agent that stores everything, and whose acks never come.
func unheard(t *testing.T, bounds func(*Config)) (*device, *fakeCluster, *Outbox) {
	c := newFakeCluster()
	d := newDevice(t, c)
	bounds(&d.cfg)
	o := d.open()
	d.connect(o)
	return d, c, o
}

// settled wants exactly those samples missing, in the end, that are reported as given up.
func settled(t *testing.T, d *device, c *fakeCluster, o *Outbox) {
	t.Helper()
	drain(t, d, o, c)
	missing := uint64(0)
	for v := 1.0; v <= d.next; v++ {
		if _, ok := c.samples[v]; !ok {
			missing++
		}
	}
	if got := o.Backlog().Dropped; missing != got.Samples+got.Downsampled || missing == 0 {
		t.Errorf("%d samples are missing; dropped %+v", missing, got)
	}
}

func TestWhatIsStoredUnheardIsNotReportedAsDropped(t *testing.T) {
	for name, between := range map[string]func(d *device, o *Outbox) *Outbox{
		"in one session":    func(_ *device, o *Outbox) *Outbox { return o },
		"over a reconnect":  func(d *device, o *Outbox) *Outbox { o.Disconnected(); d.connect(o); o.Disconnected(); return o },
		"over a kill":       func(d *device, o *Outbox) *Outbox { o.abandon(); return d.open() },
		"over a clean stop": func(d *device, o *Outbox) *Outbox { _ = o.Close(); return d.open() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, c, o := unheard(t, func(cfg *Config) { cfg.MaxBytes, cfg.HotBytes = 8<<10, 8<<10 })
				for range 4 {
					d.putBatch(o, 1, "a", "b")
					pump(o)
				}
				arrived := len(c.samples)
				if arrived != 8 {
					t.Fatalf("%d samples arrived; wanted 8", arrived)
				}
				o = between(d, o)
				for n := range 200 {
					time.Sleep(time.Second)
					d.putBatch(o, 1, fmt.Sprint("changes-", n), "b") // nothing to merge
				}
				settled(t, d, c, o)
				o.abandon()
			})
		})
	}
}

// TestAVolatileOutboxHoldsItsBoundWhileNothingIsAcknowledged has most of 8 KiB sent, and no ack for it.
func TestAVolatileOutboxHoldsItsBoundWhileNothingIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, c, o := unheard(t, func(cfg *Config) { cfg.Volatile, cfg.HotBytes = true, 8<<10 })
		for n := range 300 {
			d.putBatch(o, 1, fmt.Sprint("changes-", n), "b")
			pump(o)
			if live := o.Stats().Hot; live > d.cfg.HotBytes {
				t.Fatalf("it holds %d bytes; bound is %d", live, d.cfg.HotBytes)
			}
			time.Sleep(time.Second)
		}
		settled(t, d, c, o)
	})
}

func TestAnAlarmDoesNotWaitForTelemetryThatNobodyAcknowledges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, c, o := unheard(t, func(cfg *Config) { cfg.MaxBytes, cfg.HotBytes = 8<<10, 8<<10 })
		for range 100 {
			d.putBatch(o, 1, "a", "b")
			pump(o)
		}
		if err := o.PutEvent(api.ClassAlarm, "test.alarm", "", "fire", nil); err != nil {
			t.Fatal(err)
		}
		pump(o)
		if _, there := c.events["fire"]; !there {
			t.Error("the alarm was not sent")
		}
		o.abandon()
	})
}

// TestAgeEndsADoubtOnlyWhenNobodyAnswers leaves a batch in doubt past its age: kept while there is no session that could
// tell, given up when a session does not tell for long.
func TestAgeEndsADoubtOnlyWhenNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, o := unheard(t, func(cfg *Config) { cfg.MaxAge = time.Hour })
		d.putBatch(o, 1, "a")
		pump(o)
		o.Disconnected()
		for range 100 {
			time.Sleep(time.Minute)
			pump(o)
		}
		if b := o.Backlog(); b.Batches != 1 || b.Dropped != (api.Dropped{}) {
			t.Fatalf("backlog %+v; wanted the batch, and no drop", b)
		}
		d.connect(o)
		for range 200 {
			time.Sleep(time.Minute)
			pump(o)
		}
		if b := o.Backlog(); b.Batches != 0 || b.Dropped.Batches != 1 {
			t.Errorf("backlog %+v; wanted the batch given up", b)
		}
		o.abandon()
	})
}
