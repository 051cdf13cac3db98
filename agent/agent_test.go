package agent

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// journal records what happens in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, s)
}

func (j *journal) part(name string) Runner {
	return RunFunc(func(ctx context.Context) error {
		j.add(name + " up")
		<-ctx.Done()
		j.add(name + " down")
		return nil
	})
}

func TestGroupStopsInReverseOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g := &Group{}
		g.Stage("store", j.part("store"))
		g.Stage("rest", j.part("rest"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if i, k := slices.Index(j.lines, "rest down"), slices.Index(j.lines, "store down"); i < 0 || k < i {
			t.Errorf("order %v; wanted rest down before store down", j.lines)
		}
	})
}

func TestGroupNamesTheComponentThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		broken := errors.New("disk on fire")
		g := &Group{}
		g.Stage("store", j.part("store"))
		g.Stage("broker", RunFunc(func(context.Context) error { return broken }))
		err := g.Run(t.Context())
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "broker") {
			t.Errorf("error %v; wanted the broker's", err)
		}
	})
}

func TestGroupTakesAnEarlyEndForAFault(t *testing.T) {
	g := &Group{}
	g.Stage("link", RunFunc(func(context.Context) error { return nil }))
	if err := g.Run(t.Context()); err == nil {
		t.Error("no error; wanted one, for a component that gave up")
	}
}

func TestGroupLeavesBehindWhatDoesNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		g := &Group{StopWithin: time.Second}
		g.Stage("stuck", RunFunc(func(context.Context) error { <-release; return nil }))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := g.Run(ctx)
		close(release)
		if err == nil || !strings.Contains(err.Error(), "stuck") {
			t.Errorf("error %v; wanted one that names stuck", err)
		}
	})
}

func TestBackoffGrowsToItsCeilingAndForgets(t *testing.T) {
	b := Backoff{Min: time.Second, Max: 8 * time.Second}
	for i := range 200 {
		ceiling := min(time.Second<<min(i, 10), 8*time.Second)
		if d := b.Next(); d < 0 || d >= ceiling {
			t.Fatalf("wait %d is %s; wanted below %s", i, d, ceiling)
		}
	}
	b.Reset()
	if d := b.Next(); d >= time.Second {
		t.Errorf("after a reset the wait is %s; wanted below 1s", d)
	}
}

// device is a clock source that a test turns.
type device struct {
	wall   time.Time
	boot   time.Duration
	synced bool
}

func (d *device) source() ClockSource {
	return ClockSource{System: func() time.Time { return d.wall }, Boot: func() time.Duration { return d.boot }, Synced: func() bool { return d.synced }}
}

func TestClockOfADeviceWithoutOneStartsAtItsFloorAndFollowsTheHint(t *testing.T) {
	floor := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	d := &device{wall: time.Unix(5, 0)}
	c := NewClock(floor, d.source())
	if now, q := c.Read(); !now.Equal(floor) || q != api.TimeFloor || c.Plausible() {
		t.Errorf("before a hint: %s, %s; wanted the floor", now, q)
	}
	told := floor.Add(240 * time.Hour)
	c.Hint(told)
	d.wall, d.boot = d.wall.Add(time.Minute), time.Minute
	if now, q := c.Read(); !now.Equal(told.Add(time.Minute)) || q != api.TimeHinted {
		t.Errorf("a minute after the hint: %s, %s; wanted %s, hinted", now, q, told.Add(time.Minute))
	}
}

func TestEachSessionBringsTheClockToWhatTheClusterSaysNow(t *testing.T) {
	build := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	right := build.Add(240 * time.Hour)
	d := &device{wall: time.Unix(5, 0)}
	c := NewClock(build, d.source())
	expect := func(what string, want time.Time) {
		t.Helper()
		if now, q := c.Read(); !now.Equal(want) || q != api.TimeHinted {
			t.Errorf("%s: %s, %s; wanted %s, hinted", what, now, q, want)
		}
		if got := c.Cluster(); !got.Equal(want) {
			t.Errorf("%s: the cluster's time is %s; wanted %s", what, got, want)
		}
	}
	c.Word(1, right.Add(24*time.Hour)) // the cluster agent's clock is a day ahead
	c.Raise(right.Add(24 * time.Hour)) // by a command
	expect("ahead", right.Add(24*time.Hour))
	d.boot = time.Minute
	c.Word(1, right) // a copy, or an old message
	c.Hint(right)    // outside of the session
	expect("an older word of the session", right.Add(24*time.Hour+time.Minute))
	c.Word(2, right)
	expect("the next session", right)
	d.boot += time.Second
	expect("and it goes on", right.Add(time.Second))
	c.Word(1, right.Add(48*time.Hour))
	expect("a word for the session before", right.Add(time.Second))
	c.Word(2, right.Add(time.Hour))
	expect("forwards within a session", right.Add(time.Hour))
}

func TestAWordThatWasLongOnItsWayDoesNotSetTheClockBack(t *testing.T) {
	right := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	now := func(d *device) time.Time { return right.Add(d.boot) }
	for what, wall := range map[string]time.Time{"without a clock": time.Unix(5, 0), "whose clock is right": right} {
		d := &device{wall: wall}
		pass := func(by time.Duration) { d.wall, d.boot = d.wall.Add(by), d.boot+by }
		c := NewClock(right.Add(-24*time.Hour), d.source())
		c.Ask(1)
		c.Word(1, now(d))
		pass(time.Minute)
		c.Ask(2)
		issued := now(d)
		pass(20 * time.Second) // a partition
		c.Word(2, issued)
		if got := c.Now(); !got.Equal(now(d)) || !c.Cluster().Equal(now(d)) || !c.Told(2) {
			t.Errorf("a device %s: %s, the cluster's time %s; wanted %s", what, got, c.Cluster(), now(d))
		}
		c.Ask(3)
		pass(time.Second)
		c.Word(3, now(d).Add(-20*time.Second)) // more than it can have been on its way
		if got, want := c.Cluster(), now(d).Add(-20*time.Second); !got.Equal(want) {
			t.Errorf("a device %s, told another time at once: %s; wanted %s", what, got, want)
		}
	}
	d := &device{wall: right}
	c := NewClock(right.Add(-24*time.Hour), d.source())
	c.Ask(1)
	d.wall, d.boot = right.Add(20*time.Second), 20*time.Second
	c.Word(1, right) // nothing was told before
	if got := c.Now(); !got.Equal(d.wall) {
		t.Errorf("a clock that the delay explains was set to %s; wanted %s", got, d.wall)
	}
}

func TestNoWordBringsTheClockBeforeTheBuild(t *testing.T) {
	build := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	c := NewClock(build, (&device{wall: time.Unix(5, 0)}).source())
	c.Word(1, time.Unix(60, 0))
	if now := c.Now(); !now.Equal(build) {
		t.Errorf("a cluster agent in 1970 set the clock to %s", now)
	}
}

func TestADisciplinedClockIsNotMovedByTheClusterWhoseDeadlinesHoldAllTheSame(t *testing.T) {
	right := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	c := NewClock(right.Add(-time.Hour), (&device{wall: right, synced: true}).source())
	for i, off := range []time.Duration{time.Hour, -time.Hour} {
		c.Word(uint64(i+1), right.Add(off))
		if now, q := c.Read(); !now.Equal(right) || q != api.TimeSynced {
			t.Errorf("cluster off by %s: %s, %s; wanted its own, synced", off, now, q)
		}
		if got := c.Cluster(); !got.Equal(right.Add(off)) {
			t.Errorf("the cluster's time is %s; wanted %s", got, right.Add(off))
		}
	}
}

func TestAClockThatIsALittleSlowDoesNotStandStill(t *testing.T) {
	start := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	d := &device{wall: start, synced: true}
	c := NewClock(start.Add(-time.Hour), d.source())
	c.Word(1, start.Add(3*time.Second))
	first, _ := c.Read()
	d.wall, d.boot = d.wall.Add(time.Second), time.Second
	if second, q := c.Read(); second.Sub(first) != time.Second || q != api.TimeSynced {
		t.Errorf("a second later the clock has moved %s (%s)", second.Sub(first), q)
	}
}

func TestAtBootTellsWhenSomethingWasInThisBoot(t *testing.T) {
	d := &device{wall: time.Unix(1800000000, 0), boot: time.Hour, synced: true}
	c := NewClock(time.Time{}, d.source())
	if got, want := c.AtBoot(50*time.Minute), d.wall.Add(-10*time.Minute); !got.Equal(want) {
		t.Errorf("AtBoot: %s; wanted %s", got, want)
	}
}

func TestWatchdogIsFedOnlyWhileAlive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "20000")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Watchdog(ctx, func() error { return nil }) }()
	buf := make([]byte, 64)
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(buf)
	if err != nil || string(buf[:n]) != "WATCHDOG=1" {
		t.Errorf("service manager hears %q, %v; wanted WATCHDOG=1", buf[:n], err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAnAbsurdWatchdogIntervalIsNotBelieved(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "9223372036854775807")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Watchdog(ctx, func() error { return nil }); err != nil {
		t.Error(err)
	}
}
