package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// mqttKinds are what happens to MQTT packets behind the proxy, and to who reads them.
func mqttKinds() []Kind {
	share := func(low, high int) func(*rand.Rand) map[string]float64 {
		return func(d *rand.Rand) map[string]float64 {
			return map[string]float64{"share": float64(low+d.IntN(high-low)) / 100}
		}
	}
	proxied := func(name, help string, draw func(*rand.Rand) map[string]float64, mischief func(share float64) Mischief, done func(*Proxy) int64) Kind {
		return Kind{Name: name, Help: help, Lane: "mqtt", Targets: []string{tierProxy}, Least: 5 * time.Second, Most: 40 * time.Second, Draw: draw,
			Inject: func(_ context.Context, r *Rig, e Event) (Heal, error) {
				m := mischief(e.Params["share"])
				r.proxy.mischief.Store(&m)
				return func(context.Context) error { r.proxy.mischief.Store(&Mischief{}); return nil }, nil
			},
			Bites: func(ctx context.Context, r *Rig, _ Event) error {
				return moves(ctx, func() int64 { return done(r.proxy) })
			}}
	}
	return []Kind{
		proxied("duplicate", "PUBLISHes come twice, both ways, the second with DUP", share(5, 60), func(s float64) Mischief { return Mischief{Twice: s} },
			func(p *Proxy) int64 { return p.done.twice.Load() }),
		proxied("swap", "PUBLISHes are overtaken by the next", share(5, 60), func(s float64) Mischief { return Mischief{Swap: s} },
			func(p *Proxy) int64 { return p.done.swapped.Load() }),
		proxied("cut-acks", "the connection ends in place of a PUBACK", share(1, 10), func(s float64) Mischief { return Mischief{CutAcks: s} },
			func(p *Proxy) int64 { return p.done.cut.Load() }),
		{Name: "slow-consumer", Help: "a subscriber to all telemetry stops reading", Lane: "consumer", Targets: []string{tierControl},
			Least: 10 * time.Second, Most: 60 * time.Second, Inject: injectSlowConsumer, Bites: bitesSlowConsumer},
	}
}

// moves is nil when a count moves within a while.
func moves(ctx context.Context, count func() int64) error {
	before := count()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return until(ctx, "it happens", func() error {
		if count() == before {
			return errors.New("it has not happened")
		}
		return nil
	})
}

func injectSlowConsumer(ctx context.Context, r *Rig, _ Event) (Heal, error) {
	c, err := r.subscribe(ctx)
	if err != nil { // it may well be that the broker cannot be reached just now: then there is no consumer either
		r.cfg.Say("no slow consumer: %v", err)
		return nil, nil
	}
	r.mu.Lock()
	r.consumer = c
	r.mu.Unlock()
	return func(context.Context) error {
		r.mu.Lock()
		r.consumer = nil
		r.mu.Unlock()
		_ = c.Close() // the broker may have ended it
		return nil
	}, nil
}

// bitesSlowConsumer waits until the broker holds back, or gives up on, what nobody reads.
func bitesSlowConsumer(ctx context.Context, r *Rig, _ Event) error {
	r.mu.Lock()
	c := r.consumer
	r.mu.Unlock()
	if c == nil {
		return errors.New("nobody is slow")
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return until(ctx, "there is something to read that nobody reads", func() error {
		n, err := unread(c)
		if err == nil && n < 1000 {
			err = fmt.Errorf("%d bytes wait", n)
		}
		return err
	})
}
