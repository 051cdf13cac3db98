package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// outcomes is the file in a run's directory with an Outcome in each line.
const outcomes = "outcome.jsonl"

// run builds a site, plays a round, or one after the other, and writes the outcomes.
func (j *Job) run(ctx context.Context, log io.Writer) (err error) {
	begin := time.Now()
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(log, "%s %6.1fs %s\n", time.Now().Format("15:04:05.000"), time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
	}
	file, err := os.OpenFile(filepath.Join(j.Dir, outcomes), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keep outcomes: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	say("start site")
	rig, err := NewRig(ctx, RigConfig{Prefix: j.Prefix, Bin: j.Bin, Dir: j.Dir, Clocks: j.clocks(), Kube: j.Profile.Kube, Say: say})
	if err != nil {
		return fmt.Errorf("start site: %w", err)
	}
	defer func() { err = errors.Join(err, rig.Close()) }()
	if j.Bites {
		o, err := rig.bite(ctx, j.Nodes, j.Profile, j.Only)
		return errors.Join(err, json.NewEncoder(file).Encode(o))
	}
	for seed := j.Seed; ; seed++ {
		s := j.schedule(seed)
		say("seed %d: %d faults", seed, len(s.Events))
		o, err := rig.Play(ctx, &Round{Schedule: s, Nodes: j.Nodes, Speed: j.Speed})
		if err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		for _, v := range o.Violations {
			say("VIOLATION %s", v)
		}
		say("seed %d: %d violations in %.0fs", seed, len(o.Violations), o.Seconds)
		if len(o.Violations) > 0 {
			rig.saveState(say)
		}
		if err := json.NewEncoder(file).Encode(o); err != nil {
			return fmt.Errorf("keep outcome: %w", err)
		}
		if time.Since(begin) >= j.Until {
			return nil
		}
	}
}

// clocks are the tiers whose clock may jump, in some round of the job: only these are traced.
func (j *Job) clocks() []string {
	var out []string
	for _, tier := range agents() {
		s := j.schedule(j.Seed)
		if (j.Until > 0 || j.Bites) && len(j.Profile.Kinds) == 0 || s.touches("clock", tier) {
			out = append(out, tier)
		}
	}
	return out
}

// saveState copies the small files of every tier out of its disk, which vanishes with this process.
func (r *Rig) saveState(say func(string, ...any)) {
	for tier, p := range r.tiers {
		to := filepath.Join(r.logs(), tier+".state")
		for _, pattern := range []string{"state/*.db*", "state/*.json", "run/*"} {
			list, err := filepath.Glob(filepath.Join(p.Disk, pattern))
			if err != nil {
				continue
			}
			for _, from := range list {
				if info, err := os.Stat(from); err != nil || !info.Mode().IsRegular() {
					continue
				}
				raw, err := os.ReadFile(from)
				if err == nil {
					err = os.MkdirAll(to, 0o700)
				}
				if err == nil {
					err = os.WriteFile(filepath.Join(to, filepath.Base(from)), raw, 0o600)
				}
				if err != nil {
					say("state of %s not kept: %v", tier, err)
				}
			}
		}
	}
}
