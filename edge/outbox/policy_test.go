package outbox

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func TestSpillDecision(t *testing.T) {
	base := pressure{hotBytes: 100, hotBound: 1000, spillAfter: time.Minute, flushEvery: 30 * time.Second, sinceFlush: time.Hour}
	for name, tc := range map[string]struct {
		edit func(p *pressure)
		want bool
	}{
		"online and young":          {func(*pressure) {}, false},
		"online, ack overdue":       {func(p *pressure) { p.oldest = time.Minute }, true},
		"offline for a moment":      {func(p *pressure) { p.down = 59 * time.Second }, false},
		"offline for long":          {func(p *pressure) { p.down = time.Minute }, true},
		"offline, just flushed":     {func(p *pressure) { p.down, p.sinceFlush = time.Hour, 29*time.Second }, false},
		"nearly full, just flushed": {func(p *pressure) { p.hotBytes, p.sinceFlush = 751, 0 }, true},
		"three quarters full":       {func(p *pressure) { p.hotBytes = 750 }, false},
		"empty, offline for long":   {func(p *pressure) { p.hotBytes, p.down = 0, time.Hour }, false},
	} {
		p := base
		tc.edit(&p)
		if got := p.spill(); got != tc.want {
			t.Errorf("%s: spill is %v", name, got)
		}
	}
}

func TestWhatIsSentNext(t *testing.T) {
	all := offer{liveEvent: true, liveTele: true, backEvent: true, backTele: true}
	edit := func(f func(o *offer)) offer { o := all; f(&o); return o }
	for name, tc := range map[string]struct {
		o    offer
		want turn
	}{
		"nothing":                     {offer{}, turnNone},
		"live first":                  {all, turnLiveEvent},
		"then the backlog's turn":     {edit(func(o *offer) { o.lastLive = true }), turnBackEvent},
		"live telemetry":              {edit(func(o *offer) { o.liveEvent = false }), turnLiveTele},
		"backlog paced":               {edit(func(o *offer) { o.lastLive, o.paced = true, true }), turnLiveEvent},
		"backlog has its share":       {edit(func(o *offer) { o.lastLive, o.backFull = true, true }), turnLiveEvent},
		"backlog alone":               {offer{backTele: true}, turnBackTele},
		"backlog alone, paced":        {offer{backTele: true, paced: true}, turnNone},
		"backlog events before batch": {offer{backTele: true, backEvent: true}, turnBackEvent},
	} {
		if got := tc.o.next(); got != tc.want {
			t.Errorf("%s: turn %d, wanted %d", name, got, tc.want)
		}
	}
}

func TestAgeNeedsAClockThatCanBeBelieved(t *testing.T) {
	now := instant{wall: 10_000_000, quality: qualitySynced, mono: 500_000, boot: 1}
	for name, tc := range map[string]struct {
		m     meta
		want  time.Duration
		known bool
	}{
		"this boot, whatever the wall clock said": {meta{boot: 1, mono: 400_000, at: 1}, 100 * time.Second, true},
		"another boot, both synced":               {meta{boot: 2, quality: qualitySynced, at: 9_000_000}, 1000 * time.Second, true},
		"another boot, wrong clock then":          {meta{boot: 2, at: 1}, 0, false},
		"from the future":                         {meta{boot: 2, quality: qualitySynced, at: 99_000_000}, 0, true},
	} {
		if got, known := now.age(&tc.m); got != tc.want || known != tc.known {
			t.Errorf("%s: age %s (%v), wanted %s (%v)", name, got, known, tc.want, tc.known)
		}
	}
	now.quality = qualityFloor
	if _, known := now.age(&meta{boot: 2, quality: qualitySynced, at: 1}); known {
		t.Error("age across boots is known although the clock is wrong now")
	}
}

func TestRunsEndWhereBatchesDoNotFit(t *testing.T) {
	one := meta{key: key{1, 1}, rows: 1, size: 1000, boot: 1, shape: 1}
	for name, tc := range map[string]struct {
		edit func(m *meta)
		want int
	}{
		"all alike":         {func(*meta) {}, 4},
		"another epoch":     {func(m *meta) { m.epoch = 2 }, 2},
		"another boot":      {func(m *meta) { m.boot = 2 }, 2},
		"another series":    {func(m *meta) { m.shape = 2 }, 2},
		"clock was set":     {func(m *meta) { m.at += 5000 }, 2},
		"time got better":   {func(m *meta) { m.quality = qualitySynced }, 2},
		"too many bytes":    {func(m *meta) { m.size = maxRunBytes }, 2},
		"too many rows":     {func(m *meta) { m.rows = api.MaxRows }, 2},
		"clock drifts only": {func(m *meta) { m.at += 500 }, 4},
	} {
		run := []meta{one, one, one, one}
		tc.edit(&run[2])
		if got := runLength(run); got != tc.want {
			t.Errorf("%s: run of %d, wanted %d", name, got, tc.want)
		}
	}
	if runLength(nil) != 0 {
		t.Error("no records make a run")
	}
}

func TestThinKeepsRealSamplesAndTheFloor(t *testing.T) {
	b := api.Batch{Series: []string{"a", "b"}}
	for i := range 100 {
		v := math.NaN()
		if i%2 == 0 {
			v = float64(i)
		}
		b.Rows = append(b.Rows, api.Row{OffsetMillis: int64(i) * 10_000, Values: []float64{float64(i), v}})
	}
	before := uint64(b.Samples())
	dropped := thin(&b)
	if len(b.Rows) != 51 || b.Rows[0].OffsetMillis != 0 || b.Rows[50].OffsetMillis != 990_000 {
		t.Fatalf("%d rows, from %d to %d", len(b.Rows), b.Rows[0].OffsetMillis, b.Rows[len(b.Rows)-1].OffsetMillis)
	}
	for _, r := range b.Rows {
		if r.Values[0] != float64(r.OffsetMillis/10_000) {
			t.Errorf("row at %d has value %v: not what was measured", r.OffsetMillis, r.Values[0])
		}
	}
	if uint64(b.Samples())+dropped != before {
		t.Errorf("%d samples kept and %d dropped of %d", b.Samples(), dropped, before)
	}
	for range 20 {
		thin(&b)
	}
	for i := 1; i < len(b.Rows); i++ {
		if gap := b.Rows[i].OffsetMillis - b.Rows[i-1].OffsetMillis; gap > thinFloor.Milliseconds() {
			t.Errorf("gap of %d ms after thinning often", gap)
		}
	}
	if len(b.Rows) > 4 {
		t.Errorf("%d rows left of 1000 s; wanted about one in 10 minutes", len(b.Rows))
	}
}

func TestJoinKeepsInstantsAndTheLastSeq(t *testing.T) {
	run := []api.Batch{
		{Epoch: 1, Seq: 4, T0: 1000, Series: []string{"a"}, Rows: []api.Row{{OffsetMillis: 0, Values: []float64{1}}, {OffsetMillis: 10, Values: []float64{2}}}},
		{Epoch: 1, Seq: 6, T0: 5000, Series: []string{"a"}, Rows: []api.Row{{OffsetMillis: 7, Values: []float64{3}}}},
	}
	b, ok := join(run)
	if !ok || b.Seq != 6 || b.T0 != 1000 || len(b.Rows) != 3 || b.Rows[2].OffsetMillis != 4007 {
		t.Errorf("joined %+v, %v", b, ok)
	}
	if len(run[0].Rows) != 2 {
		t.Error("join changed its input")
	}
	run[1].Series = []string{"b"}
	if _, ok := join(run); ok {
		t.Error("different series were joined")
	}
}

func TestFlightGoesBackAndWaitsLonger(t *testing.T) {
	now := time.Unix(1000, 0)
	f := &flight{sent: []uint64{3, 4, 5}}
	f.puback(now, time.Second)
	if f.late(now.Add(999*time.Millisecond)) || !f.late(now.Add(time.Second)) || f.high() != 0 {
		t.Fatalf("late at the wrong time: %+v", f)
	}
	f.sent = []uint64{3, 4}
	f.puback(now, time.Second)
	if want := now.Add(2 * time.Second); !f.deadline.Equal(want) {
		t.Errorf("second wait until %v, wanted %v", f.deadline, want)
	}
	f.ack(3, now, time.Second)
	if f.misses != 0 || f.high() != 4 || !f.deadline.Equal(now.Add(time.Second)) {
		t.Errorf("after progress: %+v", f)
	}
	f.ack(3, now.Add(time.Hour), time.Second)
	if !f.deadline.Equal(now.Add(time.Second)) {
		t.Error("an ack without progress put the deadline off")
	}
	f.failed(4)
	if f.high() != 0 || !f.deadline.IsZero() {
		t.Errorf("after a failed send: %+v", f)
	}
}

// TestAlarmsAreDroppedLast fills flash with one class after the other: telemetry goes first, alarms last.
func TestAlarmsAreDroppedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, newFakeCluster())
		d.cfg.MaxBytes, d.cfg.HotBytes = 32<<10, 8<<10
		o := d.open()
		alarms, dropped := 0, api.Dropped{}
		for n := range 600 {
			d.putBatch(o, 1, "a")
			if err := o.PutEvent(api.ClassEvent, "test.event", "", id(n), nil); err != nil {
				t.Fatal(err)
			}
			if n > 300 {
				alarms++
				if err := o.PutEvent(api.ClassAlarm, "test.alarm", "", id(n), nil); err != nil {
					t.Fatal(err)
				}
			}
			pump(o)
			time.Sleep(time.Second)
			was := dropped
			dropped = o.Backlog().Dropped
			o.mu.Lock()
			held := o.cold.tally.Count
			o.mu.Unlock()
			if dropped.Events > was.Events && held[classTelemetry] > 0 {
				t.Fatalf("events were dropped while %d batches were held", held[classTelemetry])
			}
			if dropped.Alarms > was.Alarms && held[classEvent] > 0 {
				t.Fatalf("alarms were dropped while %d events were held", held[classEvent])
			}
		}
		if dropped.Samples == 0 || dropped.Events == 0 || dropped.Alarms == 0 {
			t.Errorf("dropped %+v; wanted some of each class", dropped)
		}
		o.abandon()
	})
}
