package fault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/swarm"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// Round is one schedule played on a rig.
type Round struct {
	Schedule Schedule
	Nodes    int     // of the crowd
	Speed    float64 // by which the schedule is compressed

	rig     *Rig
	crowd   *swarm.Swarm
	player  *swarm.Player
	load    *load
	since   map[string]int         // scrapes of earlier rounds
	failed  map[string]rows        // rows without a scrape, of earlier rounds
	told    map[string]bool        // events of earlier rounds
	dropped map[string]api.Dropped // before the faults
	ran     map[string][]int       // with Kubernetes: what ran on each device before the faults
	outcome *Outcome
	mu      sync.Mutex // of outcome
}

// Outcome is what a round came to.
type Outcome struct {
	Seed       uint64           `json:"seed"`
	Profile    string           `json:"profile"`
	Violations []string         `json:"violations"`
	Faults     map[string]int   `json:"faults"` // injected
	Account    *account.Report  `json:"account,omitempty"`
	Edges      account.Tally    `json:"edges"` // scrapes of the real node agents; Reported is in samples
	Before     map[string]Gauge `json:"before"`
	After      map[string]Gauge `json:"after"`
	Seconds    float64          `json:"seconds"`
	Notes      []string         `json:"notes,omitempty"` // what was reported of damage
}

// How long the site may take on a machine that others keep busy; as a rule it takes a few seconds.
const (
	startWithin = 3 * time.Minute
	drainWithin = 3 * time.Minute
)

// Play plays the schedule, heals everything, and accounts. An error is one of the harness; what the product did wrong is
// in the outcome.
func (r *Rig) Play(ctx context.Context, round *Round) (*Outcome, error) {
	o := &Outcome{Seed: round.Schedule.Seed, Profile: round.Schedule.Profile, Violations: []string{}, Faults: map[string]int{}}
	round.rig, round.outcome, round.since, round.failed = r, o, map[string]int{}, map[string]rows{}
	begin := time.Now()
	defer func() { o.Seconds = time.Since(begin).Seconds() }()
	clear(r.wounds)
	clear(r.lost)
	clear(r.took)
	clear(r.harms)
	r.hurtLog = false
	r.blames = nil
	for _, p := range r.tiers {
		p.begin()
	}
	for edge, t := range r.ticks {
		t.hush(false)
		round.since[edge] = len(t.all())
		dates, err := r.failures(ctx, edge, aDayAhead)
		if err != nil {
			return o, err
		}
		round.failed[edge] = rowsAt(dates)
	}
	var err error
	if round.crowd, err = r.newCrowd(ctx, round.Nodes, round.prefix(), round.Schedule.Crowd); err != nil {
		return o, err
	}
	round.player = &swarm.Player{Swarm: round.crowd, Site: r.site}
	err = round.crowd.Run(ctx, round.script)
	if err == nil {
		err = round.remove(ctx)
	}
	if err == nil {
		err = round.endKube(ctx)
	}
	if err == nil {
		err = round.end(ctx)
	}
	return o, err
}

// prefix is that of the crowd's names: each round has nodes of its own, lest what one dated into the future meets another.
func (r *Round) prefix() string { return fmt.Sprintf("%s-%d", tierCrowd, r.Schedule.Seed) }

// remove decommissions the crowd.
func (r *Round) remove(ctx context.Context) error {
	for i := range r.Nodes {
		if err := r.rig.site.Client.Delete(ctx, fmt.Sprintf("/v1/nodes/%s-%05d", r.prefix(), i)); err != nil {
			return fmt.Errorf("remove crowd: %w", err)
		}
	}
	return nil
}

// blame notes something that the product did wrong.
func (r *Round) blame(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcome.Violations = append(r.outcome.Violations, fmt.Sprintf(format, args...))
}

// script is what happens while the crowd is there.
func (r *Round) script(ctx context.Context) error {
	end, err := r.player.Look(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer end()
	if err := r.crowd.Start(ctx, 0, 100); err != nil {
		return err
	}
	if err := r.allOnline(ctx, startWithin); err != nil {
		return err
	}
	if err := r.heard(ctx); err != nil {
		return err
	}
	if err := r.beginKube(ctx); err != nil {
		return err
	}
	if r.outcome.Before, err = r.before(ctx); err != nil {
		return err
	}
	r.load = &load{rig: r.rig, player: r.player, nodes: r.Nodes, prefix: r.prefix(), dice: rand.New(rand.NewPCG(r.Schedule.Seed, 0x10ad)), labels: map[string]*label{}}
	var ordering sync.WaitGroup
	octx, stop := context.WithCancel(ctx)
	ordering.Go(func() { r.load.run(octx) })
	err = r.events(ctx)
	stop()
	ordering.Wait()
	if err != nil {
		return err
	}
	if err := r.settle(ctx); err != nil {
		r.blame("%v", err)
		return nil
	}
	return r.account(ctx)
}

// allOnline waits until every node is.
func (r *Round) allOnline(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return until(ctx, "all nodes are online", func() error {
		if f := r.crowd.Figures(); f.Online < f.Started {
			return fmt.Errorf("%d of %d of the crowd are", f.Online, f.Started)
		}
		for _, edge := range []string{tierEdge1, tierEdge2} {
			if err := r.rig.online(ctx, edge); err != nil {
				return fmt.Errorf("%s: %w", edge, err)
			}
		}
		return nil
	})
}

// settle waits until nothing is on its way any more.
func (r *Round) settle(ctx context.Context) error {
	for _, tier := range agents() {
		if p := r.rig.process(tier); !p.Running() {
			if err := p.Start(ctx); err != nil { // it died by itself, which is told elsewhere; the rest is to be judged all the same
				return err
			}
		}
	}
	if err := r.allOnline(ctx, startWithin); err != nil {
		return fmt.Errorf("after the faults: %w", err)
	}
	for _, t := range r.rig.ticks {
		t.hush(true)
	}
	if err := r.crowd.Drain(ctx, drainWithin); err != nil {
		return fmt.Errorf("after the faults: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	for _, edge := range []string{tierEdge1, tierEdge2} {
		err := until(ctx, edge+" has no backlog and no open command", func() error {
			st, err := r.rig.status(ctx, edge)
			if err != nil {
				return err
			}
			if st.Backlog.Batches > 1 || st.Backlog.Events > 0 || len(st.Commands) > 0 {
				return fmt.Errorf("it has %d batches, %d events, commands %v", st.Backlog.Batches, st.Backlog.Events, st.Commands)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("after the faults: %w", err)
		}
	}
	return nil
}

// account compares everything, through all views.
func (r *Round) account(ctx context.Context) error {
	var err error
	if r.outcome.After, err = r.after(ctx); err != nil {
		return err
	}
	for _, edge := range []string{tierEdge1, tierEdge2} {
		if err := r.accountEdge(ctx, edge); err != nil {
			return err
		}
	}
	orders := r.load.made()
	if err := r.awaitEnds(ctx, orders); err != nil {
		return err
	}
	if err := r.awaitObjects(ctx, orders); err != nil {
		return err
	}
	truth := r.crowd.Truth()
	pings, err := pings(ctx, orders, r.rig.record)
	if err != nil {
		return err
	}
	maps.Copy(truth.Commands, pings)
	truth.Orders = append(truth.Orders, orders...)
	for _, edge := range []string{tierEdge1, tierEdge2} {
		commands, err := r.stoppedTruth(ctx, edge, orders)
		if err != nil {
			return err
		}
		maps.Copy(truth.Commands, commands)
	}
	if err := r.logTold(ctx); err != nil {
		return err
	}
	truth.Lost = r.rig.lost
	report, err := account.Make(ctx, truth, r.views()...)
	if err != nil {
		return err
	}
	r.outcome.Account = report
	for _, v := range report.Violations {
		r.blame("%s %s: %s", v.Check, v.Object, v.Detail)
	}
	wrong, err := r.load.wrongLabels(ctx)
	for _, w := range wrong {
		r.blame("%s", w)
	}
	return errors.Join(err, r.accountKube(ctx))
}

// end judges the processes, when the crowd is gone.
func (r *Round) end(context.Context) error {
	for _, tier := range agents() {
		p := r.rig.process(tier)
		for _, d := range p.Deaths() {
			r.blame("%s", d)
		}
		for _, c := range p.complaints() {
			r.blame("%s", c)
		}
		r.outcome.Notes = append(r.outcome.Notes, p.refusals()...)
	}
	for _, b := range r.rig.blames {
		r.blame("%s", b)
	}
	if r.outcome.After != nil { // otherwise it did not come to that, and why is told
		for _, g := range grown(r.outcome.Before, r.outcome.After) {
			r.blame("%s", g)
		}
	}
	return nil
}

// logs is where the directory of the run is, for those who look into it.
func (r *Rig) logs() string { return filepath.Clean(r.cfg.Dir) }
