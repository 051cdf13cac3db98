package scale

import (
	"context"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// Restart is how a fleet came back after the cluster agent ended. Times are seconds since its end; -1: not within the
// limit.
type Restart struct {
	Loss     float64            `json:"loss"`
	Nodes    int                `json:"nodes"`
	Serves   float64            `json:"restServesSeconds"`
	Half     float64            `json:"half"`
	Most     float64            `json:"share95"`
	All      float64            `json:"all"`
	Drained  float64            `json:"drained"`
	Backlog  int                `json:"backlogBatchesMost"`
	Attempts uint64             `json:"connectAttempts"`
	Use      Phase              `json:"use"` // until all were back and the backlog was gone
	Refused  map[string]float64 `json:"refused"`
}

const (
	stormLimit = 15 * time.Minute
	look       = 100 * time.Millisecond
)

// Storm kills the cluster agent with SIGKILL, starts it again at once, and watches the nodes return.
func (s *site) Storm(ctx context.Context) (*Restart, error) {
	r := &Restart{Loss: s.cfg.Loss, Nodes: s.cfg.Nodes, Serves: -1, Half: -1, Most: -1, All: -1, Drained: -1, Refused: map[string]float64{}}
	crowd := s.player.Swarm
	attempts, phase := crowd.Figures().Attempts, s.watch.begin()
	s.cfg.Say("kill -9, and start it again")
	begin := time.Now()
	if err := s.tier.Kill(ctx); err != nil {
		return nil, err
	}
	if err := s.tier.Start(ctx); err != nil {
		return nil, err
	}
	served := make(chan error, 1)
	sctx, cancel := context.WithTimeout(ctx, stormLimit)
	defer cancel()
	go func() { // ends with sctx at the latest
		err := s.tier.Await(sctx)
		if err == nil {
			r.Serves = time.Since(begin).Seconds()
		}
		served <- err
	}()
	wait := r.watch(sctx, s, begin)
	if err := <-served; err != nil {
		return nil, err
	}
	r.Use = s.watch.end(phase)
	r.Attempts = crowd.Figures().Attempts - attempts
	m, err := scrape(ctx, s.player.Site.Client)
	if err != nil {
		return nil, err
	}
	for name, v := range m {
		const prefix = "skerry_cluster_broker_refused_total"
		if len(name) > len(prefix) && name[:len(prefix)] == prefix {
			r.Refused[name[len(prefix):]] = v
		}
	}
	return r, wait
}

// watch notes when which share of the nodes was back, and returns when all are and nothing waits any more.
func (r *Restart) watch(ctx context.Context, s *site, begin time.Time) error {
	gone, told := false, time.Now()
	note := func(at *float64, reached bool) {
		if *at < 0 && reached {
			*at = time.Since(begin).Seconds()
		}
	}
	for agent.Wait(ctx, look) {
		f := s.player.Swarm.Figures()
		gone = gone || f.Online < f.Started/2
		if !gone { // the nodes have not noticed yet
			continue
		}
		r.Backlog = max(r.Backlog, f.Backlog)
		share := float64(f.Online) / float64(f.Started)
		note(&r.Half, share >= 0.5)
		note(&r.Most, share >= 0.95)
		note(&r.All, share >= 1)
		if r.All >= 0 {
			// What is not acknowledged was measured since: the backlog of the outage is gone.
			note(&r.Drained, time.Duration(f.Lag).Seconds() < time.Since(begin).Seconds()-r.All)
		}
		if r.Drained >= 0 {
			return nil
		}
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			s.cfg.Say("%d of %d are back after %.0f s, backlog %d, oldest %s", f.Online, f.Started, time.Since(begin).Seconds(), f.Backlog, f.Lag)
		}
	}
	if ctx.Err() != nil {
		f := s.player.Swarm.Figures()
		return fmt.Errorf("storm: %d of %d nodes are back after %s, backlog %d, oldest %s", f.Online, f.Started, stormLimit, f.Backlog, f.Lag)
	}
	return nil
}

// RunStorm holds a load, with cfg.Loss of all packets lost from then on, and has the cluster agent killed under it.
func RunStorm(ctx context.Context, cfg Config, hold time.Duration) (*Load, error) {
	return RunLoad(ctx, cfg, hold, func(ctx context.Context, s *site, l *Load) (err error) {
		s.lose(cfg.Loss)
		if cfg.Loss > 0 && !agent.Wait(ctx, time.Minute) { // the loss is to be the usual thing by then
			return ctx.Err()
		}
		l.Restart, err = s.Storm(ctx)
		return err
	})
}
