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
	profile := swarm.DefaultProfile()
	profile.Nodes, profile.Cadence, profile.Series, profile.BatchRows = 200, time.Second, 5, 2
	profile.Churn = swarm.Churn{PerMinute: 1, Reset: 0.5, Away: 2 * time.Second}
	profile.Slow.Share = 0.05
	profile.Sleep = swarm.Sleep{Share: 0.05, Awake: 8 * time.Second, Asleep: 4 * time.Second}
	profile.Handlers = []swarm.Handler{{Verb: "work", Duration: 500 * time.Millisecond, Fail: 0.2}}
	judgeSwarm(t, play(t, profile, killed))
}

// TestGapsAreExactlyWhatTheOutboxesGaveUp cuts nodes off whose outboxes hold a few seconds only.
func TestGapsAreExactlyWhatTheOutboxesGaveUp(t *testing.T) {
	profile := swarm.DefaultProfile()
	profile.Nodes, profile.Cadence, profile.Series, profile.Outbox.MemoryBytes = 40, 200*time.Millisecond, 5, 8<<10
	a := play(t, profile, overflowing).Account
	t.Logf("%+v", a.Samples)
	if a.Samples.Reported == 0 || a.Samples.Missing == 0 || a.Samples.Missing > a.Samples.Reported {
		t.Errorf("samples %+v; wanted some to be given up, and no more missing", a.Samples)
	}
}

// play runs a swarm of profile against a cluster agent of its own, and wants that everything is accounted for.
func play(t *testing.T, profile swarm.Profile, script string) *swarm.Result {
	t.Helper()
	sc, err := swarm.ParseScenario([]byte(script))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
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
		err = p.Play(ctx, sc)
		result = p.Result()
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if result == nil || result.Account == nil {
		t.Fatal("there is no account")
	}
	return result
}

const killed = `
name: killed
limit: 5m
steps:
  - {do: ramp, rate: 200}
  - {do: await, share: 0.9, within: 1m}
  - {do: command, verb: work, rate: 10, for: 20s, deadline: 40s, background: true}
  - {do: command, verb: work, rate: 5, for: 20s, deadline: 40s, via: mqtt, background: true}
  - {do: hold, for: 8s}
  - {do: tier, tier: cluster, action: kill, within: 30s}
  - {do: hold, for: 2s}
  - {do: tier, tier: cluster, action: start, within: 30s}
  - {do: tier, tier: cluster, action: await, within: 1m}
  - {do: hold, for: 10s}
  - {do: drain, within: 90s}
  - {do: account}
`

const overflowing = `
name: overflowing
limit: 5m
steps:
  - {do: ramp, rate: 100}
  - {do: await, share: 1, within: 1m}
  - {do: hold, for: 2s}
  - {do: reset, share: 1}
  - {do: cut, share: 0.7}
  - {do: hold, for: 12s}
  - {do: back}
  - {do: await, share: 1, within: 1m}
  - {do: drain, within: 90s}
  - {do: account}
`

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
