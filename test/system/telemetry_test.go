package system

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// TestTelemetryHasNoUnexplainedGap scrapes every second while the cluster agent is killed again and again, frozen, and
// the node agent is killed. Afterwards the store has the samples of every second in which a node agent ran.
func TestTelemetryHasNoUnexplainedGap(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	f := newField(t)
	node := f.node("n1", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "telemetry: {interval: 1s}\n")
	start(t, node)
	f.online("n1")
	var lives []life
	born := time.Now()
	for range 3 {
		kill(t, f.cluster)
		pass(t, time.Duration(1+dice.IntN(4))*time.Second)
		start(t, f.cluster)
		pass(t, time.Duration(1+dice.IntN(3))*time.Second)
		freeze(t, f.cluster, 3*time.Second)
		pass(t, time.Duration(2+dice.IntN(3))*time.Second)
		kill(t, node)
		lives = append(lives, life{born, time.Now()})
		start(t, node)
		born = time.Now()
		f.online("n1")
	}
	pass(t, 5*time.Second)
	lives = append(lives, life{born, time.Now()})
	poll(t, time.Minute, "no second is missing", func() error {
		times, err := f.scrapes("n1")
		if err != nil {
			return err
		}
		return covered(lives, times)
	})
}

// life is the time in which a node agent ran.
type life struct{ from, to time.Time }

// edges is what a life may lack at its start (loading, the first interval) and at its end (the scrape that kill -9 took
// out of memory before it was sent or stored).
const edges = 3 * time.Second

// covered reports the first gap of more than two and a half intervals within a life.
func covered(lives []life, times []time.Time) error {
	for i, l := range lives {
		last, end := l.from.Add(edges-time.Second), l.to.Add(-edges)
		for _, at := range times {
			if at.Before(l.from) || at.After(l.to) {
				continue
			}
			if gap := at.Sub(last); gap > 2500*time.Millisecond {
				return fmt.Errorf("life %d of %s: nothing for %s from %s", i, l.to.Sub(l.from), gap, last.Format(time.StampMilli))
			}
			last = at
		}
		if last.Before(end) {
			return fmt.Errorf("life %d of %s: nothing in its last %s", i, l.to.Sub(l.from), l.to.Sub(last))
		}
	}
	return nil
}

// scrapes are the times at which the store has a sample of the node's clock.
func (f *field) scrapes(node string) ([]time.Time, error) {
	var answer struct {
		Data struct {
			Result []struct{ Values [][2]any }
		}
	}
	query := url.Values{"query": {`node_time_seconds{node="` + node + `"}[10m]`}}
	if err := f.get("/api/v1/query?"+query.Encode(), &answer); err != nil {
		return nil, err
	}
	var out []time.Time
	for _, series := range answer.Data.Result {
		for _, v := range series.Values {
			seconds, err := strconv.ParseFloat(fmt.Sprint(v[0]), 64)
			if err != nil {
				return nil, err
			}
			out = append(out, time.UnixMilli(int64(seconds*1000)))
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return out, nil
}

// freeze stops the process without its connections ending.
func freeze(t *testing.T, p *Process, d time.Duration) {
	t.Helper()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	pass(t, d)
	if err := p.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// pass lets the agents live for d.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal("test ended early")
	}
}
