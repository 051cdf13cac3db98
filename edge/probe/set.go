package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

const (
	// maxSlow is how many slow probes are read at once.
	maxSlow = 4
	// maxPatience is how long a scrape waits for slow probes; what comes later is told in the next one.
	maxPatience = 2 * time.Second
	// askedPatience is how long one that a person asked for waits.
	askedPatience = 5 * time.Second
	// builtinTimeout bounds a slow built-in probe: a few hung mounts, one after the other.
	builtinTimeout = 10 * time.Second
)

// set is one configuration at work.
type set struct {
	cfg      Config
	units    []*unit
	patience time.Duration
	slots    chan struct{}
	ctx      context.Context // of its slow probes
	cancel   context.CancelFunc
	crew     *agent.Crew // reads the slow ones
	round    uint64
	seen     map[string]struct{} // series of the scrape that is being made
	size     int                 // of the last one
	voids    uint64              // samples that were NaN or infinite
}

// newSet makes the probes of a validated configuration. self is asked at every scrape.
func newSet(cfg Config, self func() []Sample) (*set, error) {
	cfg = cfg.withDefaults()
	e, err := newEnv(cfg)
	if err != nil {
		return nil, err
	}
	e.self = self
	s := &set{cfg: cfg, slots: make(chan struct{}, maxSlow), seen: make(map[string]struct{})}
	s.patience = maxPatience
	if cfg.Interval > 0 {
		s.patience = min(maxPatience, cfg.Interval/2)
	}
	for _, b := range builtins() {
		if !slices.Contains(cfg.Disabled, b.name) {
			s.units = append(s.units, newUnit(b.make(e), b.slow, builtinTimeout))
		}
	}
	for _, u := range cfg.User {
		p, err := newUser(u, cfg.MaxSeries)
		if err != nil {
			return nil, err
		}
		un := newUnit(p, true, u.Timeout)
		if cfg.Interval > 0 {
			un.every = max(1, uint64((u.Interval+cfg.Interval/2)/cfg.Interval))
		}
		s.units = append(s.units, un)
	}
	for _, u := range s.units {
		u.patience = s.patience
		u.interval = max(cfg.Interval, 0) * time.Duration(u.every)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.crew = agent.NewCrew(maxSlow, s.ctx.Done())
	return s, nil
}

// scrape reads every probe that is due, or all when asked by a person, who also gets to wait longer for the slow
// ones. report is told what news there is of a probe.
func (s *set) scrape(ctx context.Context, asked bool, report func(probe string, err error)) []Sample {
	s.round++
	for _, u := range s.units {
		if u.slow && (asked || (s.round-1)%u.every == 0) {
			u.start(s.ctx, s.slots, s.crew)
		}
	}
	g := gathering{set: s, out: make([]Sample, 0, s.size+16)}
	clear(s.seen)
	read := make([]*result, 0, len(s.units))
	for _, u := range s.units {
		if !u.slow {
			r := u.read(ctx, u.emitted[:0])
			u.emitted = r.samples
			r.unit = u
			read = append(read, &r)
		}
	}
	s.await(ctx, asked)
	for _, u := range s.units {
		if !u.slow {
			continue
		}
		if r := u.collect(); r != nil && s.ctx.Err() == nil {
			r.unit = u
			read = append(read, r)
		}
	}
	g.most = share(read, s.cfg.MaxSeries)
	for _, r := range read {
		g.take(r, report)
		if r.unit.slow {
			r.unit.recycle(r)
		}
	}
	s.size = len(g.out)
	return g.out
}

func (s *set) await(ctx context.Context, asked bool) {
	patience := s.patience
	if asked {
		patience = askedPatience
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for _, u := range s.units {
		if u.slow && u.wait(ctx, limit.C, asked) {
			return
		}
	}
}

// stop ends the slow probes and waits for them, but not for ever: the kernel may hold one.
func (s *set) stop(within time.Duration) error {
	s.cancel()
	done := make(chan struct{})
	go func() {
		s.crew.Wait()
		close(done)
	}()
	limit := time.NewTimer(within)
	defer limit.Stop()
	select {
	case <-done:
		return nil
	case <-limit.C:
		return fmt.Errorf("stop probes: one still runs after %s", within)
	}
}

// status describes the probes.
func (s *set) status() []api.Probe {
	out := make([]api.Probe, 0, len(s.units))
	for _, u := range s.units {
		p := api.Probe{Name: u.probe.Name(), IntervalMillis: u.interval.Milliseconds()}
		if err := u.lastError(); err != nil {
			p.Error = err.Error()
			if len(p.Error) > api.MaxReasonBytes {
				p.Error = p.Error[:api.MaxReasonBytes]
			}
		}
		out = append(out, p)
	}
	return out
}

// share is how many series each probe may give, so that all fit into room: what small ones leave is for the large ones.
func share(read []*result, room int) int {
	most := 0
	for { // each round the small ones leave some more
		rest, large := room, 0
		for _, r := range read {
			if n := len(r.samples); n > most {
				large++
			} else {
				rest -= n
			}
		}
		if large == 0 || rest/large == most {
			break
		}
		most = rest / large
	}
	return most
}

// gathering is a scrape in the making.
type gathering struct {
	set  *set
	out  []Sample
	most int // series of each probe, without what is told about it
}

// take adds what a probe gave, within the limits, and then how it went.
func (g *gathering) take(r *result, report func(probe string, err error)) {
	u := r.unit
	var count, over, long, twice int
	var example string
	for _, s := range r.samples {
		if s.Value-s.Value != 0 { // NaN and the infinities: the wire knows "no value" instead
			g.set.voids++
			continue
		}
		if _, dup := g.set.seen[s.Series]; dup {
			twice, example = twice+1, s.Series
			continue
		}
		if len(s.Series) == 0 || len(s.Series) > api.MaxSeriesBytes {
			long++
			continue
		}
		if count == g.most {
			over++
			continue
		}
		g.set.seen[s.Series] = struct{}{}
		count++
		g.out = append(g.out, s)
	}
	err := r.err
	if over > 0 {
		err = errors.Join(err, fmt.Errorf("%d series dropped: the probe has its share, %d, of telemetry.max_series (%d); raise that or narrow the probe",
			over, g.most, g.set.cfg.MaxSeries))
	}
	if long > 0 {
		err = errors.Join(err, fmt.Errorf("%d series dropped: name longer than %d bytes", long, api.MaxSeriesBytes))
	}
	if twice > 0 {
		err = errors.Join(err, fmt.Errorf("%d series dropped: given twice, such as %s", twice, example))
	}
	success := 1.0
	if err != nil {
		success = 0
	}
	g.out = append(g.out, Sample{u.duration, r.took.Seconds()}, Sample{u.success, success})
	if u.settle(err) {
		report(u.probe.Name(), u.lastError())
	}
}
