package outbox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/api"
)

// smallDisks mounts small file systems for both tiers, and returns what fills both and what makes room again.
func smallDisks(t *testing.T, d *device) (fill, free func()) {
	t.Helper()
	smallFlash(t, d, "256k")
	flash := d.cfg.Dir
	d.cfg.Dir = d.cfg.RuntimeDir
	smallFlash(t, d, "256k")
	d.cfg.Dir = flash
	each := func(do func(path string)) {
		for _, dir := range []string{d.cfg.Dir, d.cfg.RuntimeDir} {
			do(filepath.Join(dir, "somebody-else"))
		}
	}
	fill = func() {
		each(func(path string) {
			if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("filling the disk: %v", err)
			}
		})
	}
	return fill, func() {
		each(func(path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestALinkThatIsUpTakesWhatNoDiskHasRoomFor(t *testing.T) {
	c := newFakeCluster()
	d := newDevice(t, c)
	fill, free := smallDisks(t, d)
	synctest.Test(t, func(t *testing.T) {
		d.up = time.Now()
		o := d.open()
		d.connect(o)
		fill()
		for range 300 {
			d.putBatch(o, 1, "a", "b")
			pump(o)
			c.ack(o)
			time.Sleep(time.Second)
		}
		if b := o.Backlog(); b.Dropped != (api.Dropped{}) || len(c.samples) != 600 {
			t.Fatalf("%d samples arrived, dropped %+v; wanted 600, and none", len(c.samples), b.Dropped)
		}
		for range 3 { // what nobody acknowledges stays, also beyond a session
			d.putBatch(o, 1, "a", "b")
		}
		o.Disconnected()
		d.connect(o)
		pump(o)
		c.ack(o)
		pump(o)
		if b := o.Backlog(); b.Batches != 0 || len(c.samples) != 606 {
			t.Fatalf("%d samples arrived, backlog %+v; wanted 606, and none", len(c.samples), b)
		}
		d.putBatch(o, 1, "a", "b")
		free()
		d.putBatch(o, 1, "a", "b")
		o.abandon() // both are in a file by now
		o = d.open()
		drain(t, d, o, c)
		if b := o.Backlog(); b.Dropped != (api.Dropped{}) || len(c.samples) != 610 {
			t.Errorf("%d samples arrived, dropped %+v; wanted 610, and none", len(c.samples), b.Dropped)
		}
		o.abandon()
	})
}

func TestWhatWasInMemoryAloneIsCountedAfterAKill(t *testing.T) {
	c := newFakeCluster()
	d := newDevice(t, c)
	fill, free := smallDisks(t, d)
	synctest.Test(t, func(t *testing.T) {
		d.up = time.Now()
		o := d.open()
		d.connect(o)
		fill()
		held := 0        // the first in what is left of a page
		for range 2000 { // nobody acknowledges any: the memory is bounded
			if o.PutBatch(d.batch(1, "a", "b")) == nil {
				held++
			}
		}
		b := o.Backlog()
		if b.Batches != held || b.Bytes > o.cfg.HotBytes/4+4096 || b.Dropped.Batches != uint64(2000-held) || held == 0 {
			t.Fatalf("backlog %+v of %d held; wanted at most %d bytes, and the rest counted", b, held, o.cfg.HotBytes/4)
		}
		o.abandon()
		free()
		o = d.open()
		if b := o.Backlog(); b.Batches > held/8 || b.Dropped.Batches+uint64(b.Batches) != 2000 || b.Dropped.Samples != 2*b.Dropped.Batches {
			t.Errorf("after a kill: %+v; wanted all 2000 counted", b)
		}
		lost := o.Backlog().Dropped
		o.abandon()
		o = d.open()
		if b := o.Backlog(); b.Dropped != lost {
			t.Errorf("after another: %+v; wanted them counted once", b)
		}
		o.abandon()
	})
}

func TestDropsAreToldOnceThereIsRoomForIt(t *testing.T) {
	c := newFakeCluster()
	d := newDevice(t, c)
	fill, free := smallDisks(t, d)
	synctest.Test(t, func(t *testing.T) {
		d.up = time.Now()
		o := d.open()
		fill()
		refused := uint64(0)
		refuse := func() {
			for o.PutBatch(d.batch(1, "a")) == nil { // in what is left of a page
			}
			refused++
		}
		for range 60 { // of every ten minutes one could be told
			refuse()
			pump(o)
			time.Sleep(time.Minute)
		}
		if o.st.Reported != (api.Dropped{}) {
			t.Fatalf("told %+v; wanted nothing yet", o.st.Reported)
		}
		free()
		d.putBatch(o, 1, "a")
		pump(o)
		if o.st.Reported != o.st.Dropped || o.st.Dropped.Batches != refused {
			t.Fatalf("told %+v of %+v once there is room; wanted all %d", o.st.Reported, o.st.Dropped, refused)
		}
		fill()
		refuse()
		free()
		if err := o.Close(); err != nil || o.st.Reported != o.st.Dropped || o.st.Dropped.Batches != refused {
			t.Fatalf("told %+v of %+v at the stop, %v", o.st.Reported, o.st.Dropped, err)
		}
		o = d.open()
		drain(t, d, o, c)
		if got := c.events["the outbox gave up what its bounds could not hold"]; got != api.ClassAlarm {
			t.Errorf("told as %q among %v; wanted an alarm", got, c.events)
		}
		o.abandon()
	})
}
