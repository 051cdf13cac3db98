package fault

import (
	"context"
	"crypto/tls"
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
		{Name: "slow-consumer", Help: "two subscribers to all telemetry stop reading, and one of them acknowledging, until the broker drops messages", Lane: "consumer",
			Targets: []string{tierControl}, Least: 75 * time.Second, Most: 2 * time.Minute, Inject: injectSlowConsumer, Bites: bitesSlowConsumer},
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
	var conns []*tls.Conn
	before, err := r.turnedAway(ctx)
	for _, c := range slowOnes() {
		if err != nil {
			break
		}
		var conn *tls.Conn
		if conn, err = r.subscribe(ctx, c); err == nil {
			conns = append(conns, conn)
		}
	}
	if err != nil { // it may well be that the broker cannot be reached just now: then there is no such consumer either
		r.cfg.Say("no slow consumer of each kind: %v", err)
	}
	return func(ctx context.Context) error {
		for _, c := range conns {
			_ = c.Close() // the broker may have ended it
		}
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		if now, err := r.turnedAway(ctx); err == nil {
			now = now.from(before)
			r.cfg.Say("slow-consumer: the broker dropped %.0f messages and ended %.0f clients", now.dropped, now.stalled)
		}
		return nil
	}, nil
}

// bitesSlowConsumer waits until the broker gives up messages to somebody, or somebody.
func bitesSlowConsumer(ctx context.Context, r *Rig, _ Event) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	before, err := r.turnedAway(ctx)
	if err != nil {
		return err
	}
	return until(ctx, "the broker turns somebody away", func() error {
		now, err := r.turnedAway(ctx)
		if err == nil && now.from(before) == (turnedAway{}) {
			err = fmt.Errorf("%.0f messages were dropped and %.0f clients ended, all of them before", now.dropped, now.stalled)
		}
		return err
	})
}
