package scale

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/swarm"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// Load is a steady load and what came of it. Times are in seconds.
type Load struct {
	Nodes      int            `json:"nodes"`
	Limit      string         `json:"limit"` // what held the cluster agent's memory
	Enrolled   int            `json:"enrolled"`
	EnrolRate  float64        `json:"enrolledPerSecond"`
	Connect    float64        `json:"connectSeconds"`
	Online     int            `json:"onlineLeast"`
	BareBytes  int64          `json:"rssBytesBare"` // enrolled, and nobody connected
	Hold       Phase          `json:"hold"`
	PeakBytes  int64          `json:"cgroupPeakBytes"`
	NewEach    float64        `json:"rssBytesPerNewConnection"`  // just after all connected
	IdleEach   float64        `json:"rssBytesPerIdleConnection"` // beyond bare, with its record, without telemetry, and calm
	PerNode    float64        `json:"rssBytesPerNode"`
	Batches    float64        `json:"batchesPerSecond"`
	IngestP50  float64        `json:"ingestP50Seconds"`
	IngestP99  float64        `json:"ingestP99Seconds"`
	AckP50     float64        `json:"ackP50Seconds"`
	AckP99     float64        `json:"ackP99Seconds"`
	CommandP50 float64        `json:"commandP50Seconds"`
	CommandP99 float64        `json:"commandP99Seconds"`
	Commands   int            `json:"commands"`
	Queries    []Query        `json:"queries"`
	Heap       float64        `json:"heapInUseBytes"`
	Goroutines float64        `json:"goroutines"`
	SwarmBytes int64          `json:"swarmBytesPerNode"`
	Samples    *account.Tally `json:"samples,omitempty"`
	Restart    *Restart       `json:"restart,omitempty"`
}

// Query is a question about all nodes at once, asked several times.
type Query struct {
	What    string  `json:"what"`
	Seconds float64 `json:"medianSeconds"`
	Worst   float64 `json:"worstSeconds"`
	Bytes   int     `json:"answerBytes"`
	Error   string  `json:"error,omitempty"`
}

// RunLoad holds a steady load for hold. then, which may be nil, runs after it, before everything is accounted for.
func RunLoad(ctx context.Context, cfg Config, hold time.Duration, then func(ctx context.Context, s *site, l *Load) error) (*Load, error) {
	l := &Load{Nodes: cfg.Nodes, Limit: "none"}
	begin := time.Now()
	cfg.Say("start the cluster agent, %d nodes enrol", cfg.Nodes)
	err := with(ctx, cfg, func(ctx context.Context, s *site) error {
		if s.cage != nil {
			l.Limit = fmt.Sprintf("%s %d MiB, GOMEMLIMIT %d MiB", s.cage.kind, cfg.Memory>>20, cfg.Memory*9/10>>20)
		}
		took := time.Since(begin).Seconds()
		m, err := scrape(ctx, s.player.Site.Client)
		if err != nil {
			return err
		}
		l.Enrolled = int(m[`skerry_cluster_enrollments_total{outcome="issued"}`])
		l.EnrolRate = float64(l.Enrolled) / took
		if err := l.fill(ctx, s, hold); err != nil {
			return err
		}
		if then != nil {
			if err := then(ctx, s, l); err != nil {
				return err
			}
		}
		err = s.account(ctx)
		if r := s.player.Result(); r.Account != nil {
			l.Samples = &r.Account.Samples
		}
		return err
	})
	return l, err
}

// settle is how long memory and caches get before they are looked at.
const settle = 10 * time.Second

// calm is within what time after a storm of connects the cluster agent has given back what they needed: it looks twice a minute.
const calm = 75 * time.Second

// fill connects everybody, holds, and asks.
func (l *Load) fill(ctx context.Context, s *site, hold time.Duration) error {
	if !agent.Wait(ctx, settle) {
		return ctx.Err()
	}
	l.BareBytes = rssBytes(s.tier.Pid())
	crowd := s.player.Swarm
	crowd.Hush(true)
	begin := time.Now()
	if err := s.ramp(ctx); err != nil {
		return err
	}
	l.Connect = time.Since(begin).Seconds()
	if !agent.Wait(ctx, settle) {
		return ctx.Err()
	}
	l.NewEach = float64(rssBytes(s.tier.Pid())-l.BareBytes) / float64(l.Nodes)
	if !agent.Wait(ctx, calm) {
		return ctx.Err()
	}
	l.IdleEach = float64(rssBytes(s.tier.Pid())-l.BareBytes) / float64(l.Nodes)
	crowd.Hush(false)
	if !agent.Wait(ctx, s.cfg.Cadence+settle) { // the first batch of a node makes its series
		return ctx.Err()
	}
	s.cfg.Say("hold for %s", hold)
	crowd.ResetLatencies()
	before, phase := crowd.Figures(), s.watch.begin()
	l.Online = before.Online
	times, err := l.commands(ctx, s, hold)
	if err != nil {
		return err
	}
	l.Hold = s.watch.end(phase)
	after, r := crowd.Figures(), s.player.Result()
	l.Online = min(l.Online, after.Online)
	l.Batches = float64(after.Made-before.Made) / float64(s.cfg.Series) / l.Hold.Seconds
	l.IngestP50, l.IngestP99, l.AckP50, l.AckP99 = seconds(r.IngestP50), seconds(r.IngestP99), seconds(r.AckP50), seconds(r.AckP99)
	l.Commands, l.CommandP50, l.CommandP99 = len(times), quantile(times, 0.5), quantile(times, 0.99)
	l.PerNode = float64(l.Hold.RSSBytes-l.BareBytes) / float64(l.Nodes)
	l.SwarmBytes, l.PeakBytes = r.BytesPerNode, s.cage.peak()
	m, err := scrape(ctx, s.player.Site.Client)
	if err != nil {
		return err
	}
	l.Heap, l.Goroutines = m["go_memstats_heap_inuse_bytes"], m["go_goroutines"]
	l.ask(ctx, s)
	return nil
}

func seconds(s swarm.Seconds) float64 { return time.Duration(s).Seconds() }

// quantile of unsorted times; 0 without any.
func quantile(times []float64, q float64) float64 {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// commandEvery is the pace of the commands during a load: enough for a p99 in ten minutes, too few to be a load.
const commandEvery = 500 * time.Millisecond

// commands gives one command after the other for d, and times each from the order to its end, as REST tells them. It
// also notes the fewest nodes that were online.
func (l *Load) commands(ctx context.Context, s *site, d time.Duration) ([]float64, error) {
	var times []float64
	for end := time.Now().Add(d); time.Now().Before(end); {
		took, err := s.command(ctx)
		if err != nil {
			return nil, err
		}
		times = append(times, took.Seconds())
		l.Online = min(l.Online, s.player.Swarm.Figures().Online)
		if !agent.Wait(ctx, commandEvery) {
			return nil, ctx.Err()
		}
	}
	return times, nil
}

// command orders one over REST and asks for its end every 2 ms.
func (s *site) command(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	begin := time.Now()
	id, node := api.NewID(), s.player.Swarm.Name(rand.IntN(s.cfg.Nodes))
	order := account.Order{ID: id, Node: node, Verb: "work", Via: "rest", At: begin, Deadline: begin.Add(30 * time.Second)}
	err := s.player.Site.Client.Post(ctx, "/v1/commands", api.CommandRequest{ID: id, Nodes: []string{node}, Verb: "work", Deadline: "30s"}, nil)
	order.Answered = err == nil
	s.player.Swarm.Ordered(order)
	for err == nil {
		var rec api.CommandRecord
		if err = s.player.Site.Client.Get(ctx, "/v1/commands/"+id, &rec); err == nil && rec.Final {
			if rec.Phase != api.PhaseSucceeded {
				return 0, fmt.Errorf("command to %s ended as %s: %+v", node, rec.Phase, rec.History)
			}
			return time.Since(begin), nil
		}
		if !agent.Wait(ctx, 2*time.Millisecond) {
			return 0, fmt.Errorf("command to %s is %q after a minute: %w", node, rec.Phase, ctx.Err())
		}
	}
	return 0, err
}

// rounds is how often each question is asked.
const rounds = 5

// ask asks about all nodes at once. A question that is refused is told with its answer.
func (l *Load) ask(ctx context.Context, s *site) {
	s.cfg.Say("ask about all of them")
	now := time.Now().Unix()
	instant := func(q string) string { return "/api/v1/query?" + url.Values{"query": {q}}.Encode() }
	window := url.Values{"query": {"avg(swarm_s0)"}, "start": {strconv.FormatInt(now-300, 10)}, "end": {strconv.FormatInt(now, 10)}, "step": {"30"}}
	for _, q := range []struct{ what, path string }{
		{"PromQL sum over one series of each node", instant("sum(swarm_s0)")},
		{"PromQL count over all series", instant(`count({__name__=~"swarm_s.+"})`)},
		{"PromQL ten largest", instant("topk(10, swarm_s0)")},
		{"PromQL rate over 5 minutes, summed", instant("sum(rate(swarm_s0[5m]))")},
		{"PromQL average, 5 minutes in steps of 30 s", "/api/v1/query_range?" + window.Encode()},
		{"REST list of all nodes", "/v1/nodes"},
	} {
		l.Queries = append(l.Queries, s.query(ctx, q.what, q.path))
	}
}

func (s *site) query(ctx context.Context, what, path string) Query {
	q := Query{What: what}
	var times []float64
	for range rounds {
		begin := time.Now()
		resp, err := s.player.Site.Client.Do(ctx, http.MethodGet, path, nil)
		if err != nil {
			q.Error = err.Error()
			return q
		}
		raw, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close() // it was read
		if err == nil && !json.Valid(raw) {
			err = fmt.Errorf("the answer of %d bytes is no JSON", len(raw))
		}
		if err != nil {
			q.Error = err.Error()
			return q
		}
		times, q.Bytes = append(times, time.Since(begin).Seconds()), len(raw)
	}
	q.Seconds, q.Worst = quantile(times, 0.5), slices.Max(times)
	return q
}
