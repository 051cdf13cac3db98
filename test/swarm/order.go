package swarm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// orderers is how many orders wait for their answers at once; more wait for their turn.
const orderers = 64

// order gives commands at the rate of the step to nodes at random, and returns when all were answered or given up.
func (p *Player) order(ctx context.Context, step Step) error {
	count := int(step.Rate*step.For.Seconds() + 0.5)
	begin := time.Now()
	turns := make(chan struct{}, orderers)
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range count {
		ahead := time.Duration(float64(i)/step.Rate*float64(time.Second)) - time.Since(begin)
		if ahead > 0 && !agent.Wait(ctx, ahead) {
			return ctx.Err()
		}
		nodes := p.Swarm.all()
		if len(nodes) == 0 {
			return errors.New("command: no node was started")
		}
		o := &account.Order{ID: api.NewID(), Node: nodes[rand.IntN(len(nodes))].id, Verb: step.Verb, Via: step.Via, At: time.Now()}
		if o.Via == "" {
			o.Via = "rest"
		}
		p.Swarm.mu.Lock()
		p.Swarm.orders[o.ID] = o
		p.Swarm.mu.Unlock()
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		wg.Go(func() {
			defer func() { <-turns }()
			err := p.insist(ctx, o, step.Deadline)
			p.Swarm.mu.Lock()
			o.Answered = err == nil
			p.Swarm.mu.Unlock()
			if err != nil && ctx.Err() == nil {
				p.say("order %s to %s: %v", o.ID, o.Node, err)
			}
		})
	}
	return nil
}

// insist repeats an order under its id until it is answered: then, and only then, it is known to exist.
func (p *Player) insist(ctx context.Context, o *account.Order, deadline time.Duration) error {
	for {
		p.Swarm.mu.Lock()
		o.Deadline = time.Now().Add(deadline) // of this try; an earlier one that came through has an earlier one
		p.Swarm.mu.Unlock()
		err := p.once(ctx, o, deadline)
		if err == nil {
			return nil
		}
		refusal, ok := errors.AsType[*api.Problem](err)
		if ok && refusal.Status < http.StatusInternalServerError && refusal.Status != http.StatusTooManyRequests {
			return err
		}
		if time.Since(o.At) > deadline || !agent.Wait(ctx, 200*time.Millisecond+rand.N(800*time.Millisecond)) {
			return err
		}
	}
}

func (p *Player) once(ctx context.Context, o *account.Order, deadline time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if o.Via == "mqtt" {
		if p.Listener == nil {
			return &api.Problem{Status: http.StatusForbidden, Title: "no MQTT view to order through"}
		}
		if err := p.Listener.AwaitUp(ctx); err != nil {
			return fmt.Errorf("order over MQTT: %w", err)
		}
		return p.Listener.Request(ctx, o.Node, o.ID, &api.Request{Verb: o.Verb, Deadline: api.Deadline{After: deadline}})
	}
	return p.Site.Client.Post(ctx, "/v1/commands", api.CommandRequest{ID: o.ID, Nodes: []string{o.Node}, Verb: o.Verb, Deadline: deadline.String()}, nil)
}
