package scale

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// Fanout is how long something takes to be with every node. Times are in seconds.
type Fanout struct {
	Nodes   int     `json:"nodes"`
	Asked   float64 `json:"connectsAskedPerSecond"`
	Connect float64 `json:"connectSeconds"`
	Desired Spread  `json:"desired"` // a change of the desired document of every node, each by a request of its own
	Command Spread  `json:"command"` // one request that orders a command of all of them
	Use     Phase   `json:"use"`     // of both
}

// Spread is when how many nodes had it, from the first request on; each is from the request for a node to its arrival.
type Spread struct {
	Written float64 `json:"requestsAnswered"` // the last of them
	Half    float64 `json:"half"`
	Most    float64 `json:"share95"`
	All     float64 `json:"all"`
	EachP50 float64 `json:"eachP50,omitempty"`
	EachP99 float64 `json:"eachP99,omitempty"`
}

const (
	fanoutLimit = 10 * time.Minute
	writers     = 16 // requests at a time: as a controller does that has a change for everybody
)

// RunFanout connects everybody, and measures what goes to all.
func RunFanout(ctx context.Context, cfg Config) (*Fanout, error) {
	f := &Fanout{Nodes: cfg.Nodes, Asked: cfg.Rate}
	cfg.Say("start the cluster agent, %d nodes enrol", cfg.Nodes)
	err := with(ctx, cfg, func(ctx context.Context, s *site) error {
		s.player.Swarm.Hush(true)
		begin := time.Now()
		if err := s.ramp(ctx); err != nil {
			return err
		}
		f.Connect = time.Since(begin).Seconds()
		if !agent.Wait(ctx, settle) {
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(ctx, fanoutLimit)
		defer cancel()
		phase := s.watch.begin()
		if err := s.spreadDesired(ctx, &f.Desired); err != nil {
			return fmt.Errorf("desired documents: %w", err)
		}
		if err := s.spreadCommand(ctx, &f.Command); err != nil {
			return fmt.Errorf("one command to all: %w", err)
		}
		f.Use = s.watch.end(phase)
		return nil
	})
	return f, err
}

// spreadDesired states a version for every node, which is the change of a desired document that REST has. Simulated nodes
// do nothing about it.
func (s *site) spreadDesired(ctx context.Context, out *Spread) error {
	s.cfg.Say("state a version for each of %d nodes, %d requests at a time", s.cfg.Nodes, writers)
	before, _ := s.player.Swarm.Desired()
	body := api.AgentRequest{Version: "999.0.0", URL: "https://127.0.0.1:1/releases", Retry: true} // a change also when --dir has it of an earlier run
	began := make([]time.Time, s.cfg.Nodes)
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	wctx, stop := context.WithCancel(ctx)
	defer stop()
	begin := time.Now()
	for range writers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < s.cfg.Nodes; i = int(next.Add(1)) - 1 {
				began[i] = time.Now()
				if err := s.player.Site.Client.Put(wctx, "/v1/nodes/"+s.player.Swarm.Name(i)+"/agent", body, nil); err != nil {
					errs <- err
					stop()
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	if err := <-errs; err != nil {
		return err
	}
	out.Written = time.Since(begin).Seconds()
	for {
		now, heard := s.player.Swarm.Desired()
		if !slices.Equal(before, now) && out.fill(begin, began, heard, func(i int) bool { return now[i] > before[i] }) {
			return nil
		}
		if !agent.Wait(ctx, look) {
			return fmt.Errorf("not with all nodes: %w", context.Cause(ctx))
		}
	}
}

// fill is true once all nodes have it; heard is when.
func (p *Spread) fill(begin time.Time, began, heard []time.Time, has func(i int) bool) bool {
	var since, each []float64
	for i := range heard {
		if !has(i) {
			return false
		}
		since, each = append(since, heard[i].Sub(begin).Seconds()), append(each, heard[i].Sub(began[i]).Seconds())
	}
	p.Half, p.Most, p.All = quantile(since, 0.5), quantile(since, 0.95), slices.Max(since)
	p.EachP50, p.EachP99 = quantile(each, 0.5), quantile(each, 0.99)
	return true
}

// spreadCommand orders one command of all, and counts what was done.
func (s *site) spreadCommand(ctx context.Context, out *Spread) error {
	s.cfg.Say("order a command of all %d nodes with one request", s.cfg.Nodes)
	crowd, names := s.player.Swarm, make([]string, s.cfg.Nodes)
	for i := range names {
		names[i] = crowd.Name(i)
	}
	before, begin := crowd.Figures().Effects, time.Now()
	request := api.CommandRequest{Nodes: names, Verb: "work", Deadline: "10m"}
	if err := s.player.Site.Client.Post(ctx, "/v1/commands", request, nil); err != nil {
		return err
	}
	out.Written = time.Since(begin).Seconds()
	for share := 0.0; share < 1; {
		if !agent.Wait(ctx, look/2) {
			return fmt.Errorf("%.0f %% have done it: %w", 100*share, context.Cause(ctx))
		}
		share = float64(crowd.Figures().Effects-before) / float64(s.cfg.Nodes)
		for _, reach := range []struct {
			at    *float64
			share float64
		}{{&out.Half, 0.5}, {&out.Most, 0.95}, {&out.All, 1}} {
			if *reach.at == 0 && share >= reach.share {
				*reach.at = time.Since(begin).Seconds()
			}
		}
	}
	return nil
}

// Rows are f as a table. Nothing has a budget.
func (f *Fanout) Rows() []Row {
	rate := fact("connects", float64(f.Nodes)/f.Connect, "1/s")
	rate.Note = fmt.Sprintf("%g a second were asked for; mqtt.accept_per_second bounds them too", f.Asked)
	rows := []Row{fact("nodes", float64(f.Nodes), ""), rate}
	for _, p := range []struct {
		what, done string
		*Spread
	}{{"desired to all", "have it", &f.Desired}, {"one command to all", "have done it", &f.Command}} {
		rows = append(rows, fact(p.what+": requests answered", p.Written, "s"), fact(p.what+": 50 % "+p.done, p.Half, "s"),
			fact(p.what+": 95 % "+p.done, p.Most, "s"), fact(p.what+": all "+p.done, p.All, "s"))
	}
	return append(rows, fact("desired, request to arrival, p50", 1000*f.Desired.EachP50, "ms"), fact("desired, request to arrival, p99", 1000*f.Desired.EachP99, "ms"),
		fact("desired, fan-out", float64(f.Nodes)/f.Desired.All, "1/s"), fact("command, fan-out", float64(f.Nodes)/f.Command.All, "1/s"),
		fact("cluster processor", f.Use.CPU, "% of a core"), fact("cluster RSS, most", float64(f.Use.RSSMost)/(1<<20), "MiB"))
}
