package system

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/swarm"
)

// TestEverythingIsAccountedForWhenTheClusterAgentIsKilled has 200 nodes report and obey while they are disconnected at
// random and the cluster agent is killed. Afterwards every sample is stored or reported as given up, and every command has
// one end, the same on its node, in REST and over MQTT, and was done at most once.
func TestEverythingIsAccountedForWhenTheClusterAgentIsKilled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	program, err := Program("skerry-cluster")
	if err != nil {
		t.Fatal(err)
	}
	tier := &swarm.ClusterTier{Program: program, Dir: t.TempDir()}
	t.Cleanup(func() {
		if err := tier.Kill(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the cluster agent said last:\n%s", tail(filepath.Join(tier.Dir, "cluster.log"), 25))
		}
	})
	if err := tier.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := tier.Await(ctx); err != nil {
		t.Fatal(err)
	}
	profile := swarm.DefaultProfile()
	profile.Nodes, profile.Cadence, profile.Series, profile.BatchRows = 200, time.Second, 5, 2
	profile.Churn = swarm.Churn{PerMinute: 1, Reset: 0.5, Away: 2 * time.Second}
	profile.Slow.Share = 0.05
	profile.Sleep = swarm.Sleep{Share: 0.05, Awake: 8 * time.Second, Asleep: 4 * time.Second}
	profile.Handlers = []swarm.Handler{{Verb: "work", Duration: 500 * time.Millisecond, Fail: 0.2}}
	profile.Link.BackoffMax, profile.Link.StableAfter, profile.Outbox.AckTimeout = 2*time.Second, 5*time.Second, 5*time.Second
	site, err := swarm.NewSite(ctx, tier.Access)
	if err != nil {
		t.Fatal(err)
	}
	join, err := site.Join(ctx, profile.Nodes)
	if err != nil {
		t.Fatal(err)
	}
	s, err := swarm.New(swarm.Config{Profile: profile, Join: join, Identities: t.TempDir(), Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p := &swarm.Player{Swarm: s, Site: site, Tiers: map[string]swarm.Tier{"cluster": tier}, Say: func(text string) { t.Log(text) }}
	var result *swarm.Result
	err = s.Run(ctx, func(ctx context.Context) error {
		end, err := p.Look(ctx, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		defer end()
		err = p.Play(ctx, killed(t))
		result = p.Result()
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if result == nil || result.Account == nil {
		t.Fatal("there is no account")
	}
	judgeSwarm(t, result)
}

func killed(t *testing.T) swarm.Scenario {
	t.Helper()
	sc, err := swarm.ParseScenario([]byte(`
name: killed
limit: 2m
steps:
  - {do: ramp, rate: 200}
  - {do: await, share: 0.9, within: 30s}
  - {do: command, verb: work, rate: 10, for: 20s, deadline: 40s, background: true}
  - {do: command, verb: work, rate: 5, for: 20s, deadline: 40s, via: mqtt, background: true}
  - {do: hold, for: 8s}
  - {do: tier, tier: cluster, action: kill, within: 10s}
  - {do: hold, for: 2s}
  - {do: tier, tier: cluster, action: start, within: 10s}
  - {do: tier, tier: cluster, action: await, within: 30s}
  - {do: hold, for: 10s}
  - {do: drain, within: 40s}
  - {do: account}
`))
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

// judgeSwarm wants that what was to be shown was there to be seen.
func judgeSwarm(t *testing.T, r *swarm.Result) {
	t.Helper()
	a := r.Account
	t.Logf("%d samples made, %d stored, %d given up; %d orders: %v, %d late; %d reconnects, %d resets, %d goodbyes, %d sleeps; %d KiB a node",
		a.Samples.Made, a.Samples.Stored, a.Samples.Reported, a.Orders, a.Ends, a.Late, r.Reconnects, r.Resets, r.Leaves, r.Sleeps, r.BytesPerNode>>10)
	if len(a.Views) != 3 || a.Total != 0 {
		t.Errorf("views %v, %d violations: %v", a.Views, a.Total, a.Violations)
	}
	if a.Samples.Made < 10_000 || a.Samples.Stored+a.Samples.Missing != a.Samples.Made {
		t.Errorf("samples %+v; wanted thousands", a.Samples)
	}
	if a.Orders < 200 || a.Ends[api.PhaseSucceeded] < 100 || a.Ends[api.PhaseFailed] == 0 {
		t.Errorf("%d orders ended as %v; wanted most to succeed, and some to fail as the profile says", a.Orders, a.Ends)
	}
	if r.Reconnects < 100 || r.Resets == 0 || r.Leaves == 0 || r.Sleeps == 0 {
		t.Errorf("%d reconnects, %d resets, %d goodbyes, %d sleeps; wanted all of them", r.Reconnects, r.Resets, r.Leaves, r.Sleeps)
	}
}
