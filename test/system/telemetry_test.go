package system

import (
	"errors"
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
// the node agent is killed. Every scrape counts itself (skerry_edge_scrapes_total), so afterwards the store must hold
// 1, 2, 3, … of every life of the node agent, up to its end. Nothing was dropped, and the drop counter says so.
func TestTelemetryHasNoUnexplainedGap(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	f := newField(t)
	node := f.node("n1", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "telemetry: {interval: 1s}\n")
	start(t, node)
	f.online("n1")
	var ends []time.Time
	for range 3 {
		kill(t, f.cluster)
		pass(t, time.Duration(1+dice.IntN(4))*time.Second)
		start(t, f.cluster)
		pass(t, time.Duration(1+dice.IntN(3))*time.Second)
		freeze(t, f.cluster, 3*time.Second)
		pass(t, time.Duration(2+dice.IntN(3))*time.Second)
		kill(t, node)
		ends = append(ends, time.Now())
		start(t, node)
		f.online("n1")
	}
	pass(t, 5*time.Second)
	ends = append(ends, time.Now())
	poll(t, time.Minute, "no scrape is missing", func() error {
		scrapes, err := f.samples(`skerry_edge_scrapes_total{node="n1"}`)
		if err != nil {
			return err
		}
		return unbroken(ends, scrapes)
	})
	dropped, err := f.samples(`skerry_edge_dropped_samples_total{node="n1"}`)
	if err != nil || len(dropped) == 0 {
		t.Fatalf("drop counter: %d values, %v", len(dropped), err)
	}
	for _, d := range dropped {
		if d.value != 0 {
			t.Fatalf("%v samples dropped at %s; wanted none with a disk and memory to spare", d.value, d.at)
		}
	}
}

// sample is one value in the store.
type sample struct {
	at    time.Time
	value float64
}

// tailLoss is what kill -9 may take out of the memory of a node agent: the scrape under way, and the one before it.
const tailLoss = 3 * time.Second

// unbroken checks that the counter that begins anew with each life of the agent has every value in each of them.
func unbroken(ends []time.Time, scrapes []sample) error {
	life, last := -1, sample{}
	for _, s := range scrapes {
		switch {
		case s.value == 1:
			if life >= 0 && ends[life].Sub(last.at) > tailLoss {
				return fmt.Errorf("life %d: nothing in its last %s", life, ends[life].Sub(last.at))
			}
			if life++; life == len(ends) {
				return fmt.Errorf("a life more than the %d there were begins at %s", len(ends), s.at)
			}
		case s.value != last.value+1:
			return fmt.Errorf("life %d: after scrape %v at %s comes %v at %s", life, last.value, last.at.Format(time.StampMilli), s.value,
				s.at.Format(time.StampMilli))
		}
		last = s
	}
	if life != len(ends)-1 || ends[life].Sub(last.at) > tailLoss {
		return fmt.Errorf("%d lives of %d, the last up to %s of %s", life+1, len(ends), last.at.Format(time.StampMilli),
			ends[len(ends)-1].Format(time.StampMilli))
	}
	return nil
}

func TestUnbrokenMeetsEveryGap(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(1_764_000_000+int64(s), 0) }
	ends := []time.Time{at(3), at(13)}
	whole := []sample{{at(1), 1}, {at(2), 2}, {at(3), 3}, {at(11), 1}, {at(12), 2}, {at(13), 3}}
	if err := unbroken(ends, whole); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		if i == 2 || i == 5 { // the scrape that kill -9 may take
			continue
		}
		if err := unbroken(ends, slices.Delete(slices.Clone(whole), i, i+1)); err == nil {
			t.Errorf("scrape %d is missing and nobody noticed", i)
		}
	}
}

// samples are the raw values of a series in the last ten minutes, by time.
func (f *field) samples(selector string) ([]sample, error) {
	var answer struct {
		Data struct {
			Result []struct{ Values [][2]any }
		}
	}
	query := url.Values{"query": {selector + "[10m]"}}
	if err := f.get("/api/v1/query?"+query.Encode(), &answer); err != nil {
		return nil, err
	}
	var out []sample
	for _, series := range answer.Data.Result {
		for _, v := range series.Values {
			seconds, err1 := strconv.ParseFloat(fmt.Sprint(v[0]), 64)
			value, err2 := strconv.ParseFloat(fmt.Sprint(v[1]), 64)
			if err := errors.Join(err1, err2); err != nil {
				return nil, err
			}
			out = append(out, sample{time.UnixMilli(int64(seconds * 1000)), value})
		}
	}
	slices.SortFunc(out, func(a, b sample) int { return a.at.Compare(b.at) })
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
