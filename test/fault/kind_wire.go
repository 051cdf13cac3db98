package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

func wired() []string {
	return []string{tierCluster, tierEdge1, tierEdge2, tierCrowd, tierProxy, tierControl}
}

// wireKinds are what happens to packets.
func wireKinds() []Kind {
	wire := func(name, help string, most time.Duration, draw func(*rand.Rand) map[string]float64, trouble func(p map[string]float64) Trouble,
		bites func(context.Context, *Rig, Event) error) Kind {
		return Kind{Name: name, Help: help, Lane: "wire", Targets: wired(), Least: 2 * time.Second, Most: most, Draw: draw, Bites: bites,
			Inject: func(_ context.Context, r *Rig, e Event) (Heal, error) { return r.disturb(e, trouble(e.Params)), nil }}
	}
	return []Kind{
		wire("partition", "no packet passes; way 0: both, 1: none from there, 2: none to there", 30*time.Second,
			func(d *rand.Rand) map[string]float64 { return map[string]float64{"way": float64(d.IntN(3))} },
			func(map[string]float64) Trouble { return Trouble{Drop: true} }, bitesCut),
		wire("half-open", "connections that were there go dead without a reset; new ones work", 40*time.Second, nil,
			func(map[string]float64) Trouble { return Trouble{DropBegun: time.Now()} }, bitesHalfOpen),
		wire("latency", "every packet is late", 30*time.Second,
			func(d *rand.Rand) map[string]float64 {
				return map[string]float64{"ms": float64(20 + d.IntN(400)), "jitter_ms": float64(d.IntN(100))}
			},
			func(p map[string]float64) Trouble {
				return Trouble{Delay: millis(p["ms"]), Jitter: millis(p["jitter_ms"])}
			}, bitesSlow),
		wire("loss", "a share of the packets is lost", 30*time.Second,
			func(d *rand.Rand) map[string]float64 { return map[string]float64{"share": float64(5+d.IntN(25)) / 100} },
			func(p map[string]float64) Trouble { return Trouble{Loss: p["share"]} }, bitesLossy),
		wire("reorder", "packets overtake each other, and some come twice", 30*time.Second,
			func(d *rand.Rand) map[string]float64 {
				return map[string]float64{"share": float64(10+d.IntN(40)) / 100, "twice": float64(d.IntN(30)) / 100}
			},
			func(p map[string]float64) Trouble { return Trouble{Reorder: p["share"], Duplicate: p["twice"]} }, bitesSlow),
		wire("narrow", "few bytes a second pass", 30*time.Second,
			func(d *rand.Rand) map[string]float64 {
				return map[string]float64{"bytes_per_second": float64(4<<10 + d.IntN(60<<10))}
			},
			func(p map[string]float64) Trouble { return Trouble{BytesPerSecond: int64(p["bytes_per_second"])} }, bitesNarrow),
	}
}

func millis(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }

// disturb puts trouble on the wire of a target, in the direction that the parameter way says.
func (r *Rig) disturb(e Event, t Trouble) Heal {
	out, in := t, t
	switch e.Params["way"] {
	case 1:
		in = Trouble{}
	case 2:
		out = Trouble{}
	}
	r.network.Disturb(e.Target, out, in)
	return func(context.Context) error {
		r.network.Disturb(e.Target, Trouble{}, Trouble{})
		return nil
	}
}

// pingWithin bounds a ping; a share of those that bites ask for passes even a bad wire.
const pingWithin = time.Second

func bitesCut(ctx context.Context, r *Rig, e Event) error {
	if took, err := r.ping(ctx, e.Target); err == nil {
		return fmt.Errorf("a ping passed in %s", took)
	}
	return nil
}

// bitesHalfOpen pings through a connection of the harness's own that it keeps.
func bitesHalfOpen(ctx context.Context, r *Rig, e Event) error {
	if took, err := r.pingKept(ctx, e.Target); err == nil {
		return fmt.Errorf("the old connection answered in %s", took)
	}
	if _, err := r.ping(ctx, e.Target); err != nil {
		return fmt.Errorf("a new connection: %w", err)
	}
	return nil
}

func bitesSlow(ctx context.Context, r *Rig, e Event) error {
	var sum time.Duration
	const pings = 4
	for range pings {
		took, err := r.ping(ctx, e.Target)
		if err != nil {
			took = pingWithin
		}
		sum += took
	}
	if sum < pings*6*time.Millisecond {
		return fmt.Errorf("%d pings took %s", pings, sum)
	}
	return nil
}

func bitesLossy(ctx context.Context, r *Rig, e Event) error {
	for range 30 { // each is several packets: a lost one costs at least the 200 ms of TCP's first retransmission
		if took, err := r.ping(ctx, e.Target); err != nil || took > 150*time.Millisecond {
			return nil
		}
	}
	return errors.New("thirty pings were quick")
}

func bitesNarrow(ctx context.Context, r *Rig, e Event) error {
	took, err := r.push(ctx, e.Target, 32<<10)
	if err == nil && took < 300*time.Millisecond {
		return fmt.Errorf("32 KiB took %s", took)
	}
	return nil
}
