package account

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Truth is everything that the nodes know, and everything that was ordered.
type Truth struct {
	From, To time.Time // of the telemetry
	Nodes    []Node
	Orders   []Order
	Commands map[string]Command
	Lost     Samples // that damage took out of the store, as whoever damaged it knows
}

// Report is the outcome. Without violations everything is accounted for.
type Report struct {
	Views      []string          `json:"views"`
	Orders     int               `json:"orders"`
	Ends       map[api.Phase]int `json:"ends"` // commands by the end in the first view that shows it
	Late       int               `json:"late"` // closed by the cluster agent's clock before the node ended them
	Samples    Tally             `json:"samples"`
	Violations []Violation       `json:"violations"`
	Total      int               `json:"totalViolations"` // Violations is cut at a thousand
}

// maxViolations bounds a report.
const maxViolations = 1000

func (r *Report) add(list []Violation) {
	r.Total += len(list)
	r.Violations = append(r.Violations, list[:min(len(list), maxViolations-len(r.Violations))]...)
}

// Err is nil when everything is accounted for.
func (r *Report) Err() error {
	if r.Total == 0 {
		return nil
	}
	errs := []error{fmt.Errorf("accounting: %d violations", r.Total)}
	for _, v := range r.Violations[:min(len(r.Violations), 10)] {
		errs = append(errs, fmt.Errorf("%s %s: %s", v.Check, v.Object, v.Detail))
	}
	return errors.Join(errs...)
}

// Make looks at everything through every view. An error means that a view could not be had; violations are in the report.
func Make(ctx context.Context, truth *Truth, views ...View) (*Report, error) {
	r := &Report{Orders: len(truth.Orders), Ends: map[api.Phase]int{}, Violations: []Violation{}}
	var sights []commandSight
	for _, v := range views {
		r.Views = append(r.Views, v.Name())
		if c, ok := v.(CommandView); ok {
			lives, whole, err := c.Commands(ctx, truth.Orders)
			if err != nil {
				return nil, fmt.Errorf("look at commands through %s: %w", v.Name(), err)
			}
			sights = append(sights, commandSight{v.Name(), whole, lives})
		}
		if n, ok := v.(NodeView); ok {
			nodes, err := n.Nodes(ctx)
			if err != nil {
				return nil, fmt.Errorf("look at nodes through %s: %w", v.Name(), err)
			}
			r.add(checkDesired(v.Name(), truth.Nodes, nodes))
		}
		if s, ok := v.(SampleView); ok {
			if err := r.samples(ctx, truth, s); err != nil {
				return nil, fmt.Errorf("look at samples through %s: %w", v.Name(), err)
			}
		}
	}
	r.add(checkCommands(truth.Orders, truth.Commands, sights))
	r.add(checkEffects(truth.Orders, truth.Commands))
	r.count(truth.Orders, sights)
	return r, nil
}

func (r *Report) count(orders []Order, sights []commandSight) {
	for i := range orders {
		for _, s := range sights {
			if life, ok := s.lives[orders[i].ID]; ok && len(life.Finals) > 0 {
				r.Ends[life.Finals[0]]++
				if life.Late != "" {
					r.Late++
				}
				break
			}
		}
	}
}

// lookers is how many nodes are looked at at once.
const lookers = 4

func (r *Report) samples(ctx context.Context, truth *Truth, view SampleView) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan *Node)
	for range lookers {
		wg.Go(func() {
			for n := range next {
				samples, err := view.Samples(ctx, n.ID, truth.From, truth.To)
				if err != nil {
					cancel(fmt.Errorf("%s: %w", n.ID, err))
					continue
				}
				sum, bad := checkSamples(view.Name(), n, samples, truth.Lost)
				mu.Lock()
				r.Samples.add(sum)
				r.add(bad)
				mu.Unlock()
			}
		})
	}
	for i := range truth.Nodes {
		select {
		case next <- &truth.Nodes[i]:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}
