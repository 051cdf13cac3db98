package outbox

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// model remembers everything that was put into an outbox, and does to it what the world does.
type model struct {
	t       *testing.T
	rng     *rand.Rand
	d       *device
	c       *fakeCluster
	o       *Outbox
	samples map[float64]bool
	events  int
	trail   []string
	rough   bool // files were damaged: reports may admit more than Backlog().Dropped
}

func newModel(t *testing.T, seed uint64, bounds func(*Config)) *model {
	c := newFakeCluster()
	m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 7)), c: c, d: newDevice(t, c), samples: map[float64]bool{}}
	m.d.cfg.HotBytes = 8 << 10
	bounds(&m.d.cfg)
	m.o = m.d.open()
	return m
}

func (m *model) do(name string, f func()) {
	m.trail = append(m.trail, name)
	m.trail = m.trail[max(0, len(m.trail)-100):]
	f()
	m.bounded()
}

// bounded wants both tiers within their bounds, and within them the room for what is not in doubt.
func (m *model) bounded() {
	o, cfg := m.o, &m.d.cfg
	flash := cfg.MaxBytes
	if flash == 0 {
		flash = 16 << 20
	}
	if o.hot.live > cfg.HotBytes || o.cold.tally.Bytes > flash {
		m.t.Errorf("%d bytes in the hot tier, %d in flash; bounds are %d and %d\n%v", o.hot.live, o.cold.tally.Bytes, cfg.HotBytes, flash, m.trail)
	}
	if sum, room := o.doubt.bytes[tele]+o.doubt.bytes[events], min(cfg.HotBytes, flash)/2; sum > room+1024 { // of one record each
		m.t.Errorf("%d bytes in doubt; bound is %d\n%v", sum, room, m.trail)
	}
}

func (m *model) put() {
	shapes := [][]string{{"a"}, {"a", "b"}, {"node_load1", "node_memory_MemAvailable_bytes", `node_filesystem_avail_bytes{mountpoint="/"}`}}
	b := m.d.batch(1+m.rng.IntN(4), shapes[m.rng.IntN(10)*len(shapes)/10]...)
	if err := m.o.PutBatch(b); err != nil {
		m.t.Fatalf("put: %v", err)
	}
	for _, r := range b.Rows {
		for _, v := range r.Values {
			m.samples[v] = true
		}
	}
}

func (m *model) putEvent() {
	m.events++
	class := api.ClassEvent
	if m.rng.IntN(3) == 0 {
		class = api.ClassAlarm
	}
	if err := m.o.PutEvent(class, "test.happened", "thing", id(m.events), nil); err != nil {
		m.t.Fatalf("put event: %v", err)
	}
}

func (m *model) reopen(damage func()) {
	if damage != nil {
		damage()
	}
	m.o = m.d.open()
}

func (m *model) flip(path string) {
	raw, err := os.ReadFile(path)
	if err != nil || len(raw) == 0 {
		return
	}
	raw[m.rng.IntN(len(raw))] ^= 1 << m.rng.IntN(8)
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// tear leaves half a record at the end of the hot file: a put that was under way when the process was killed.
func (m *model) tear() {
	path := filepath.Join(m.d.cfg.RuntimeDir, "outbox.hot")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	frame := appendRecord(nil, &record{meta: meta{kind: kindBatch, key: key{1 << 40, 1}}, payload: make([]byte, 100)})
	if _, err := f.Write(frame[:1+m.rng.IntN(headerBytes-1)]); err != nil {
		m.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		m.t.Fatal(err)
	}
}

// step does one random thing.
func (m *model) step(damage bool) {
	rng := m.rng
	switch n := rng.IntN(100); {
	case n < 35:
		m.do("put", m.put)
	case n < 45:
		m.do("event", m.putEvent)
	case n < 65:
		m.do("pump", func() { pump(m.o) })
	case n < 75:
		m.do("ack", func() { m.c.ack(m.o) })
	case n < 82:
		m.do("connect", func() { m.d.connect(m.o) })
	case n < 86:
		m.do("disconnect", m.o.Disconnected)
	case n < 88:
		m.do("cluster forgets", m.c.forget)
	case n < 91:
		m.do("kill", func() { m.o.abandon(); m.reopen(nil) })
	case n < 92:
		m.do("kill, torn", func() { m.o.abandon(); m.reopen(m.tear) })
	case n < 93:
		m.do("restart", func() {
			if err := m.o.Close(); err != nil {
				m.t.Fatalf("close: %v", err)
			}
			m.reopen(nil)
		})
	case n < 94:
		m.do("reboot", func() {
			if err := m.o.Close(); err != nil {
				m.t.Fatalf("close: %v", err)
			}
			m.reopen(func() { m.removeHot() })
		})
	case n < 95 && damage:
		m.rough = true
		m.do("flash flips", func() {
			m.o.abandon()
			m.reopen(func() { m.flip(filepath.Join(m.d.cfg.Dir, "outbox.db")) })
		})
	case n < 96 && damage:
		m.rough = true
		m.do("memory flips", func() {
			m.o.abandon()
			m.reopen(func() { m.flip(filepath.Join(m.d.cfg.RuntimeDir, "outbox.hot")) })
		})
	default:
		m.do("wait", func() { time.Sleep(time.Duration(rng.IntN(60)) * time.Second) })
	}
}

func (m *model) removeHot() {
	if err := os.Remove(filepath.Join(m.d.cfg.RuntimeDir, "outbox.hot")); err != nil {
		m.t.Fatal(err)
	}
}

// missing counts what was put and never received.
func (m *model) missing() (samples, events uint64) {
	for v := range m.samples {
		if _, ok := m.c.samples[v]; !ok {
			samples++
		}
	}
	for n := 1; n <= m.events; n++ {
		if _, ok := m.c.events[id(n)]; !ok {
			events++
		}
	}
	return samples, events
}

func (m *model) check(exact bool) {
	m.t.Helper()
	drain(m.t, m.d, m.o, m.c)
	samples, events := m.missing()
	if st := m.o.Stats(); !m.rough && st.Corruptions != 0 {
		m.t.Errorf("a sound outbox.db was taken for damaged: %+v", st)
	}
	d, st := m.o.Backlog().Dropped, m.o.Stats()
	reported := d.Samples + d.Downsampled
	reportedEvents := d.Events + d.Alarms
	if m.rough { // what could not be recognized is admitted in bytes: a sample takes two at least, an event its header
		reported += st.Unreadable / 2
		reportedEvents += (st.Unreadable + headerBytes - 1) / headerBytes
	}
	// The outbox's own events may be among the dropped ones, so their number is a bound only.
	if samples > reported || events > reportedEvents || exact && samples != reported {
		m.t.Errorf("%d samples and %d events are missing; reported %+v, %+v\n%v", samples, events, d, st, m.trail)
	}
}

// TestNothingIsLostSilently puts while links are cut, acks lag, the cluster agent forgets, the process is killed, the
// device reboots. With room enough nothing may be missing and nothing be reported as dropped.
func TestNothingIsLostSilently(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, seed, func(*Config) {})
				m.c.fate = m.fate
				for range 300 {
					m.step(false)
				}
				m.check(true)
				if d := m.o.Backlog().Dropped; d != (api.Dropped{}) {
					t.Errorf("dropped %+v although there was room", d)
				}
				m.o.abandon()
			})
		})
	}
}

// fate is a bad link: one message in four meets some misfortune.
func (m *model) fate() fate {
	if n := m.rng.IntN(16); n < int(fateUnsure)+1 {
		return fate(n)
	}
	return fateStored
}

// TestADropReportMeansThatItWillNotArrive is the same with a flash of 24 KiB: what is missing must have been reported, and
// what arrived must not, however the acks of it came late, were lost, or met another life of the process.
func TestADropReportMeansThatItWillNotArrive(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, seed, func(cfg *Config) { cfg.MaxBytes, cfg.HotBytes = 24<<10, 4<<10 })
				m.c.fate = m.fate
				for range 600 {
					m.step(false)
				}
				m.check(true)
				m.o.abandon()
			})
		})
	}
}

// TestDropsWhileOfflineAreCountedExactly never sends anything before the end, so that dropped and received are disjoint.
func TestDropsWhileOfflineAreCountedExactly(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, seed, func(cfg *Config) { cfg.MaxBytes, cfg.HotBytes = 24<<10, 4<<10 })
				m.c.fate = func() fate { return fateFailed }
				for range 600 {
					m.step(false)
				}
				m.check(true)
				if d := m.o.Backlog().Dropped; d.Samples+d.Downsampled == 0 {
					t.Error("nothing was dropped: the bounds were not tried")
				}
				m.o.abandon()
			})
		})
	}
}

// TestDamageIsReported flips bits of both files between lives: what is missing must not exceed what the reports admit.
func TestDamageIsReported(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, seed, func(*Config) {})
				m.c.fate = m.fate
				for range 400 {
					m.step(true)
				}
				m.check(false)
				m.o.abandon()
			})
		})
	}
}

// TestPowerCutLosesOnlyWhatWasNotInFlash cuts the power: the hot tier is gone, what had been spilled is not.
func TestPowerCutLosesOnlyWhatWasNotInFlash(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, seed, func(*Config) {})
				for range 60 {
					m.put()
					m.putEvent()
					time.Sleep(time.Duration(m.rng.IntN(10)) * time.Second)
					pump(m.o)
				}
				safe := m.o.cold.tally
				m.o.abandon()
				m.removeHot()
				m.reopen(nil)
				if got := m.o.cold.tally; got != safe || safe.empty() {
					t.Fatalf("flash holds %+v after the power cut; held %+v before", got, safe)
				}
				drain(t, m.d, m.o, m.c)
				samples, _ := m.missing()
				if want := uint64(len(m.samples)) - safe.Samples; samples > want {
					t.Errorf("%d samples are missing; only %d were not in flash", samples, want)
				}
				m.o.abandon()
			})
		})
	}
}
