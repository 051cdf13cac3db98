package fault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/swarm"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// crowdProfile is what the simulated nodes are like; their clocks are shortened too.
func crowdProfile(nodes int, prefix string, c Crowd, runtimes []string) swarm.Profile {
	p := swarm.DefaultProfile()
	p.Nodes, p.Prefix, p.Cadence, p.Series, p.BatchRows, p.Encoding = nodes, prefix, time.Second, 5, c.BatchRows, c.Encoding
	p.Handlers = []swarm.Handler{{Verb: "work", Duration: 300 * time.Millisecond, Fail: 0.1}}
	p.Link = swarm.Link{KeepAlive: 5 * time.Second, BackoffMax: 2 * time.Second, StableAfter: 5 * time.Second}
	p.Workloads.Runtimes = runtimes
	p.Outbox.MemoryBytes, p.Outbox.AckTimeout, p.Outbox.ReplayBytesPerSecond = c.MemoryBytes, 5*time.Second, 256<<10
	return p
}

// newCrowd makes the simulated nodes. Every third of them is behind the proxy.
func (r *Rig) newCrowd(ctx context.Context, nodes int, prefix string, c Crowd) (*swarm.Swarm, error) {
	join, err := r.site.Join(ctx, nodes)
	if err != nil {
		return nil, err
	}
	_, self := addrOf(tierCrowd)
	_, proxy := addrOf(tierProxy)
	_, cluster := addrOf(tierCluster)
	var runtimes []string
	if r.kube != nil {
		runtimes = []string{"simulated"}
	}
	return swarm.New(swarm.Config{Profile: crowdProfile(nodes, prefix, c, runtimes), Join: join, Identities: r.identities(), Dir: r.cfg.Dir,
		URLs: []string{"mqtts://" + cluster.String() + ":" + mqttPort}, Log: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context, node int, network, addr string) (net.Conn, error) {
			if node%3 == 0 {
				addr = proxy.String() + ":" + mqttPort
			}
			return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: self.AsSlice()}}).DialContext(ctx, network, addr)
		}})
}

// load orders things while faults happen.
type load struct {
	rig    *Rig
	player *swarm.Player
	nodes  int
	prefix string // of the crowd
	dice   *rand.Rand

	mu     sync.Mutex
	orders []*account.Order
	labels map[string]*label
}

const (
	orderEvery  = 400 * time.Millisecond
	maxPerEdge  = 150 // a node agent's journal remembers 256
	orderWithin = 25 * time.Second
)

// run orders until ctx ends, then waits for the answers.
func (l *load) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	perEdge := map[string]int{}
	turns := make(chan struct{}, 48)
	doors := []string{"rest", "mqtt"}
	if l.rig.kube != nil {
		doors = append(doors, viaKube)
	}
	for agent.Wait(ctx, orderEvery/2+time.Duration(l.dice.Int64N(int64(orderEvery)))) {
		o := &account.Order{ID: api.NewID(), Via: doors[l.dice.IntN(len(doors))], Verb: "work",
			Node: fmt.Sprintf("%s-%05d", l.prefix, l.dice.IntN(l.nodes))}
		if l.dice.IntN(5) < 2 {
			o.Node, o.Verb = []string{tierEdge1, tierEdge2}[l.dice.IntN(2)], []string{"ping", "exec", "exec"}[l.dice.IntN(3)]
			if perEdge[o.Node]++; perEdge[o.Node] > maxPerEdge {
				continue
			}
		}
		label := l.dice.IntN(4) == 0
		select {
		case turns <- struct{}{}:
		default:
			continue // so many wait that one more would tell nothing
		}
		l.mu.Lock()
		l.orders = append(l.orders, o)
		l.mu.Unlock()
		wg.Go(func() {
			defer func() { <-turns }()
			l.insist(context.WithoutCancel(ctx), o)
			if label {
				l.label(context.WithoutCancel(ctx), o.Node)
			}
		})
	}
}

// insist repeats an order under its id until it is answered: then, and only then, it is known to exist.
func (l *load) insist(ctx context.Context, o *account.Order) {
	l.mu.Lock()
	o.At = time.Now()
	l.mu.Unlock()
	for {
		l.mu.Lock()
		o.Deadline = time.Now().Add(orderWithin)
		l.mu.Unlock()
		err := l.once(ctx, o)
		if err == nil {
			l.mu.Lock()
			o.Answered = true
			l.mu.Unlock()
			return
		}
		refusal, ok := errors.AsType[*api.Problem](err)
		if ok && refusal.Status < http.StatusInternalServerError && refusal.Status != http.StatusTooManyRequests {
			return
		}
		if time.Since(o.At) > orderWithin || !agent.Wait(ctx, 300*time.Millisecond+rand.N(700*time.Millisecond)) {
			return
		}
	}
}

func (l *load) once(ctx context.Context, o *account.Order) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var args map[string]any
	if o.Verb == "exec" {
		args = map[string]any{"argv": []string{l.rig.script(o.Node), o.ID}}
	}
	if o.Via == viaKube {
		return l.rig.kube.order(ctx, o, args)
	}
	if o.Via == "mqtt" {
		if err := l.player.Listener.AwaitUp(ctx); err != nil {
			return err
		}
		return l.player.Listener.Request(ctx, o.Node, o.ID, &api.Request{Verb: o.Verb, Args: args, Deadline: api.Deadline{After: orderWithin}})
	}
	return l.rig.site.Client.Post(ctx, "/v1/commands", api.CommandRequest{ID: o.ID, Nodes: []string{o.Node}, Verb: o.Verb, Args: args,
		Deadline: orderWithin.String()}, nil)
}

// label is what is known of a node's label.
type label struct {
	value   string // the last that was answered for
	busy    bool
	unknown bool // a change was not answered for, and may come through at any time
}

// label changes a label of a node: what is answered for has to be there at the end.
func (l *load) label(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	value := api.NewID()
	l.mu.Lock()
	now := l.labels[node]
	if now == nil {
		now = &label{}
		l.labels[node] = now
	}
	skip := now.busy || now.unknown
	now.busy = true
	l.mu.Unlock()
	if skip {
		return
	}
	err := l.rig.site.Client.Patch(ctx, "/v1/nodes/"+node, map[string]any{"labels": map[string]string{"fault": value}}, nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	now.busy, now.unknown, now.value = false, err != nil, value
}

// wrongLabels compares what was answered for with what is there.
func (l *load) wrongLabels(ctx context.Context) (bad []string, err error) {
	var list api.List[api.Node]
	if err := l.rig.site.Client.Get(ctx, "/v1/nodes", &list); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range list.Items {
		if want := l.labels[n.ID]; want != nil && !want.unknown && n.Labels["fault"] != want.value {
			bad = append(bad, fmt.Sprintf("label of %s is %q; %q was answered for", n.ID, n.Labels["fault"], want.value))
		}
	}
	return bad, nil
}

// made returns the orders.
func (l *load) made() []account.Order {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]account.Order, len(l.orders))
	for i, o := range l.orders {
		out[i] = *o
	}
	return out
}
