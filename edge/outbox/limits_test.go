package outbox

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// limit changes one bound of an open outbox.
func limit(t *testing.T, o *Outbox, change func(*Limits)) {
	t.Helper()
	l := o.Limits()
	change(&l)
	if err := o.Limit(l); err != nil {
		t.Fatal(err)
	}
}

func TestALoweredBoundOfFlashTakesWhatIsBeyondItAndCountsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		o := d.open()
		for range 400 {
			d.putBatch(o, 20, "a", "b")
			pump(o)
			time.Sleep(time.Second)
		}
		before := o.Backlog()
		limit(t, o, func(l *Limits) { l.MaxBytes, l.HotBytes = 32<<10, 4<<10 })
		pump(o) // nothing is put, nobody connects: the bound alone is reason enough
		after, st := o.Backlog(), o.Stats()
		if st.Cold > 32<<10 || st.Hot > 4<<10 {
			t.Errorf("%d bytes in flash and %d before it; wanted at most 32 KiB and 4 KiB", st.Cold, st.Hot)
		}
		if before.Bytes < 64<<10 || after.Dropped.Samples+after.Dropped.Downsampled == 0 {
			t.Errorf("of %d bytes %+v was given up", before.Bytes, after.Dropped)
		}
		drain(t, d, o, c)
		if lost := 400*20*2 - len(c.samples); uint64(lost) != after.Dropped.Samples+after.Dropped.Downsampled {
			t.Errorf("%d samples are lost; counted %+v", lost, after.Dropped)
		}
		o.abandon()
	})
}

func TestARaisedBoundKeepsWhatTheOldOneWouldHaveTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, newFakeCluster())
		d.cfg.MaxBytes, d.cfg.HotBytes = 16<<10, 4<<10
		o := d.open()
		limit(t, o, func(l *Limits) { l.MaxBytes = 16 << 20 })
		for range 200 {
			d.putBatch(o, 20, "a", "b")
			pump(o)
			time.Sleep(time.Second)
		}
		if b := o.Backlog(); b.Dropped.Samples+b.Dropped.Downsampled > 0 || b.Bytes < 64<<10 {
			t.Errorf("backlog %+v; wanted all of it", b)
		}
		o.abandon()
	})
}

func TestALoweredAgeExpiresAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, newFakeCluster())
		o := d.open()
		for range 48 {
			d.putBatch(o, 1, "a")
			pump(o)
			time.Sleep(time.Hour)
		}
		limit(t, o, func(l *Limits) { l.MaxAge = 12*time.Hour + time.Minute })
		pump(o)
		if b := o.Backlog(); b.Batches != 12 || b.Dropped.Batches != 36 {
			t.Errorf("backlog %+v; wanted the last 12 hours of 48", b)
		}
		o.abandon()
	})
}

func TestAShorterPatienceReachesFlashSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, newFakeCluster())
		d.cfg.SpillAfter = time.Hour
		o := d.open()
		d.putBatch(o, 1, "a")
		time.Sleep(5 * time.Minute)
		pump(o)
		if st := o.Stats(); st.FlashBytes != 0 {
			t.Fatalf("%d bytes of flash written within the hour", st.FlashBytes)
		}
		limit(t, o, func(l *Limits) { l.SpillAfter = time.Minute })
		pump(o)
		if st := o.Stats(); st.Cold == 0 {
			t.Error("five minutes offline, a minute allowed, and nothing is in flash")
		}
		o.abandon()
	})
}

func TestThePaceOfAReplayFollowsItsSetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		d.cfg.ReplayBytesPerSecond = 1 << 10
		o := d.open()
		for range 400 {
			d.putBatch(o, 20, "a", "b")
		}
		total := o.Backlog().Bytes
		d.connect(o)
		run := func(until func() bool) time.Duration {
			start := time.Now()
			for !until() {
				pump(o)
				c.ack(o)
				time.Sleep(100 * time.Millisecond)
			}
			return time.Since(start)
		}
		start := time.Now()
		run(func() bool { return time.Since(start) > 20*time.Second })
		left := o.Backlog().Bytes
		if sent := total - left; sent > 32<<10 {
			t.Fatalf("%d bytes in 20 s at 1 KiB/s", sent)
		}
		limit(t, o, func(l *Limits) { l.ReplayBytesPerSecond = 16 << 10 })
		took, want := run(func() bool { return o.Backlog().Batches == 0 }).Seconds(), float64(left)/float64(16<<10)
		if took < want*0.8 || took > want*1.3 {
			t.Errorf("the rest of %d bytes took %.1f s; wanted about %.1f s", left, took, want)
		}
		o.abandon()
	})
}

func TestLimitsThatMakeNoSenseChangeNothing(t *testing.T) {
	d := newDevice(t, newFakeCluster())
	o := d.open()
	before := o.Limits()
	err := o.Limit(Limits{MaxBytes: 1, MaxAge: -1, HotBytes: 1, SpillAfter: time.Second})
	if err == nil || !strings.Contains(err.Error(), "MaxAge") || !strings.Contains(err.Error(), "ReplayBytesPerSecond") {
		t.Errorf("error %v; wanted both faults", err)
	}
	if got := o.Limits(); got != before {
		t.Errorf("in force is %+v; wanted %+v", got, before)
	}
	o.abandon()
}

func TestLimitsChangeWhileRunSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		d := newDevice(t, c)
		d.cfg.HotBytes = 4 << 10
		o := d.open()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- o.Run(ctx) }()
		d.connect(o)
		for n := range 100 {
			d.putBatch(o, 5, "a")
			limit(t, o, func(l *Limits) {
				l.HotBytes = int64(4<<10 + n%3<<12)
				l.ReplayBytesPerSecond = int64(1<<10 + n<<6)
			})
			time.Sleep(time.Second)
			c.ack(o)
		}
		synctest.Wait()
		if b := o.Backlog(); b.Dropped.Samples > 0 || len(c.samples) != 500 {
			t.Errorf("%d samples arrived, backlog %+v", len(c.samples), b)
		}
		cancel()
		if err := errors.Join(<-ended, o.Close()); err != nil {
			t.Error(err)
		}
	})
}
