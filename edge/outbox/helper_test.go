package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// device is what outlives an outbox: its directories, its clock, its session counter.
type device struct {
	t     testing.TB
	cfg   Config
	epoch uint64
	next  float64 // value of the next sample: each is unique

	mu      sync.Mutex
	quality api.TimeQuality
	skew    time.Duration // of the wall clock
	up      time.Time     // when it booted
}

func newDevice(t testing.TB, sender Sender) *device {
	d := &device{t: t, quality: api.TimeSynced, up: time.Now().Add(-time.Hour)}
	clock := agent.NewClock(time.Unix(0, 0), agent.ClockSource{
		System: func() time.Time { d.mu.Lock(); defer d.mu.Unlock(); return time.Now().Add(d.skew) },
		Boot:   func() time.Duration { d.mu.Lock(); defer d.mu.Unlock(); return time.Since(d.up) },
		Synced: func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.quality == api.TimeSynced },
	})
	dir := t.TempDir()
	d.cfg = Config{Dir: filepath.Join(dir, "flash"), RuntimeDir: filepath.Join(dir, "run"), Boot: "boot-1", Clock: clock,
		Sender: sender, Log: slog.New(slog.DiscardHandler)}
	return d
}

// open starts the outbox as the agent would: with an epoch of its own.
func (d *device) open() *Outbox {
	d.t.Helper()
	d.epoch++
	cfg := d.cfg
	cfg.Epoch = d.epoch
	o, err := Open(cfg)
	if err != nil {
		d.t.Fatalf("open outbox: %v", err)
	}
	return o
}

func (d *device) connect(o *Outbox) {
	d.epoch++
	o.Connected(d.epoch)
}

// abandon lets go of the outbox's files as a killed process does: nothing is flushed, noted or cleaned up.
func (o *Outbox) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.begin(false)
	if err := errors.Join(o.cold.rest(), o.hot.file.Close(), o.lock.Close()); err != nil {
		panic(err)
	}
}

// batch makes a batch of rows ten seconds apart, up to now, in which every value is unique.
func (d *device) batch(rows int, series ...string) *api.Batch {
	now, q := d.cfg.Clock.Read()
	span := time.Duration(rows-1) * 10 * time.Second
	b := &api.Batch{T0: api.At(now.Add(-span)), Mono: (d.cfg.Clock.Boot() - span).Milliseconds(), TimeQuality: q, Series: series}
	for i := range rows {
		r := api.Row{OffsetMillis: int64(i) * 10000}
		for range series {
			d.next++
			r.Values = append(r.Values, d.next)
		}
		b.Rows = append(b.Rows, r)
	}
	return b
}

func (d *device) putBatch(o *Outbox, rows int, series ...string) *api.Batch {
	d.t.Helper()
	b := d.batch(rows, series...)
	if err := o.PutBatch(b); err != nil {
		d.t.Fatalf("put batch: %v", err)
	}
	return b
}

// fakeCluster is a broker and a cluster agent in one that does by the letter what the wire asks: it stores along the
// chain of Prev, discards what comes with a gap, and acknowledges its watermark.
type fakeCluster struct {
	mu      sync.Mutex
	fate    func() fate // of the next message; nil means all is well
	mark    map[lane]uint64
	samples map[float64]api.Millis // when each value was measured, as received
	events  map[string]api.Class   // by message
	log     []sentMessage
}

type sentMessage struct {
	at         time.Time
	lane       lane
	seq, prev  uint64
	historical bool
	bytes      int
}

type fate uint8

const (
	fateStored fate = iota
	fateTwice       // delivered twice
	fateLost        // PUBACK, but it never reached the cluster agent
	fateFailed      // neither PUBACK nor delivery
	fateUnsure      // delivered, but the PUBACK was lost
)

func newFakeCluster() *fakeCluster {
	return &fakeCluster{mark: map[lane]uint64{}, samples: map[float64]api.Millis{}, events: map[string]api.Class{}}
}

func (c *fakeCluster) Send(_ context.Context, kind mqtt.Kind, v any, done func(error)) {
	c.mu.Lock()
	f := fateStored
	if c.fate != nil {
		f = c.fate()
	}
	switch f {
	case fateTwice:
		c.deliver(kind, v)
		c.deliver(kind, v)
	case fateStored, fateUnsure:
		c.deliver(kind, v)
	}
	c.mu.Unlock()
	if f == fateFailed || f == fateUnsure {
		done(errors.New("no PUBACK"))
		return
	}
	done(nil)
}

func (c *fakeCluster) deliver(kind mqtt.Kind, v any) {
	switch m := v.(type) {
	case *api.Batch:
		if err := m.Validate(); err != nil || kind != mqtt.KindTele {
			panic(fmt.Sprint("bad batch on the wire: ", err))
		}
		l := lane{tele, m.Epoch}
		c.log = append(c.log, sentMessage{time.Now(), l, m.Seq, m.Prev, m.Historical, 0})
		if !c.advance(l, m.Prev, m.Seq) {
			return
		}
		for _, r := range m.Rows {
			for _, x := range r.Values {
				c.samples[x] = m.T0 + api.Millis(r.OffsetMillis)
			}
		}
	case *api.Event:
		if err := m.Validate(); err != nil || kind != mqtt.KindEvent {
			panic(fmt.Sprint("bad event on the wire: ", err))
		}
		l := lane{events, m.Epoch}
		c.log = append(c.log, sentMessage{time.Now(), l, m.Seq, m.Prev, false, 0})
		if c.advance(l, m.Prev, m.Seq) {
			c.events[m.Message] = m.Class
		}
	}
}

func (c *fakeCluster) advance(l lane, prev, seq uint64) bool {
	if seq <= c.mark[l] || prev > c.mark[l] {
		return false // known, or after a gap: it will come again
	}
	c.mark[l] = seq
	return true
}

// forget is a cluster agent that restarts without a memory of watermarks; what it stored is stored.
func (c *fakeCluster) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.mark)
}

// acks returns the watermarks as they are sent to the node.
func (c *fakeCluster) acks() []api.Ack {
	c.mu.Lock()
	defer c.mu.Unlock()
	byEpoch := map[uint64]api.Ack{}
	for l, seq := range maps.All(c.mark) {
		a := byEpoch[l.epoch]
		a.Epoch = l.epoch
		if l.stream == tele {
			a.Seq = seq
		} else {
			a.Events = seq
		}
		byEpoch[l.epoch] = a
	}
	var out []api.Ack
	for _, a := range byEpoch {
		out = append(out, a)
	}
	return out
}

func (c *fakeCluster) ack(o *Outbox) {
	for _, a := range c.acks() {
		o.Ack(&a)
	}
}

// pump does everything that is due now, in this goroutine, and returns how much was sent.
func pump(o *Outbox) int {
	for n := 0; ; n++ {
		j, _ := o.step(context.Background(), time.Now())
		if j == nil {
			return n
		}
		o.cfg.Sender.Send(j.ctx, j.kind, j.message, j.done)
	}
}

// drain lets an outbox with a perfect link send all it has, and fails when that takes more than a week.
func drain(t testing.TB, d *device, o *Outbox, c *fakeCluster) {
	t.Helper()
	c.mu.Lock()
	c.fate = nil
	c.mu.Unlock()
	d.connect(o)
	for deadline := time.Now().Add(7 * 24 * time.Hour); time.Now().Before(deadline); {
		pump(o)
		c.ack(o)
		pump(o)
		if b := o.Backlog(); b.Batches+b.Events == 0 {
			return
		}
		time.Sleep(time.Second)
	}
	t.Fatalf("backlog never drained: %+v; next %v flights %v", o.Backlog(), o.next, o.flights)
}

func id(n int) string { return "event-" + strconv.Itoa(n) }

// heldSender holds every message under way.
type heldSender struct{ done []func(error) }

func (s *heldSender) Send(_ context.Context, _ mqtt.Kind, _ any, done func(error)) {
	s.done = append(s.done, done)
}

// refuser finds batches of series "bad" impossible.
type refuser struct{ *fakeCluster }

func (r refuser) Send(ctx context.Context, kind mqtt.Kind, v any, done func(error)) {
	if b, ok := v.(*api.Batch); ok && b.Series[0] == "bad" {
		done(fmt.Errorf("encode: %w", ErrUnsendable))
		return
	}
	r.fakeCluster.Send(ctx, kind, v, done)
}
