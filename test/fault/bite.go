package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/skerry-edge/skerry/test/swarm"
)

// bite injects every kind at a target, one after the other, and wants each to be felt while it lasts, and not before
// or after. It proves the harness, and judges no product.
func (r *Rig) bite(ctx context.Context, nodes int, profile Profile, only string) (*Outcome, error) {
	o := &Outcome{Profile: "bites", Violations: []string{}, Faults: map[string]int{}}
	begin := time.Now()
	crowd, err := r.newCrowd(ctx, nodes, tierCrowd, Crowd{MemoryBytes: 256 << 10, Encoding: "json", BatchRows: 1})
	if err != nil {
		return o, err
	}
	p := &swarm.Player{Swarm: crowd, Site: r.site}
	err = crowd.Run(ctx, func(ctx context.Context) error {
		if err := crowd.Start(ctx, 0, 100); err != nil {
			return err
		}
		round := &Round{rig: r, crowd: crowd, player: p, outcome: o}
		dice := rand.New(rand.NewPCG(1, 1))
		for _, k := range profile.kinds() {
			if only != "" && k.Name != only {
				continue
			}
			targets := k.Targets
			if only == "" { // all of them one by one, when one kind is asked for
				targets = []string{targets[dice.IntN(len(targets))]}
			}
			for _, target := range targets {
				if err := round.allOnline(ctx, startWithin); err != nil {
					return fmt.Errorf("before %s at %s: %w", k.Name, target, err)
				}
				e := Event{Fault: k.Name, Target: target}
				if k.Draw != nil {
					e.Params = k.Draw(dice)
				}
				if err := r.biteOnce(ctx, k, e); err != nil {
					round.blame("%s at %s %v: %v", k.Name, target, e.Params, err)
				}
				o.Faults[k.Name]++
			}
		}
		return nil
	})
	o.Seconds = time.Since(begin).Seconds()
	return o, err
}

func (r *Rig) biteOnce(ctx context.Context, k Kind, e Event) error {
	r.cfg.Say("%s %s %v", e.Fault, e.Target, e.Params)
	if e.Params["share"] > 0 {
		e.Params["share"] = 0.3 // a small share may be missed
	}
	quiet, end := context.WithTimeout(ctx, 30*time.Second)
	defer end()
	err := until(quiet, "it is not felt before it is there", func() error { // a busy machine is slow too, at times
		if k.Bites(ctx, r, e) == nil {
			return errors.New("it is felt")
		}
		return nil
	})
	if err != nil {
		return err
	}
	heal, err := k.Inject(ctx, r, e)
	if err != nil {
		return errors.Join(fmt.Errorf("inject: %w", err), heal(ctx))
	}
	patient, end := context.WithTimeout(ctx, 30*time.Second)
	defer end()
	felt := until(patient, "it is felt", func() error { return k.Bites(patient, r, e) }) // what comes by chance may let one wait
	if err := heal(ctx); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	if felt != nil {
		return fmt.Errorf("it is not felt: %w", felt)
	}
	// What was on its way may be felt for a while; an agent that was killed starts.
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return until(ctx, "it is over", func() error {
		if k.Bites(ctx, r, e) == nil {
			return errors.New("it is still felt")
		}
		return nil
	})
}
