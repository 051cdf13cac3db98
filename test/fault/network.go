package fault

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"time"
)

// port is where a host is plugged in.
type port struct {
	tun     *os.File
	mu      sync.Mutex
	waiting late
	wake    chan struct{}
}

// wire is one address of a host, with what happens to its packets.
type wire struct {
	port *port
	name string

	mu      sync.Mutex
	out, in Trouble
	free    [2]time.Time // when it is free: out, in
}

// late is a heap of packets that are on their way.
type late []parcel

type parcel struct {
	at     time.Time
	number uint64 // keeps the order of those that are due together
	packet []byte
}

func (l late) Len() int { return len(l) }
func (l late) Less(i, j int) bool {
	return l[i].at.Before(l[j].at) || l[i].at.Equal(l[j].at) && l[i].number < l[j].number
}
func (l late) Swap(i, j int) { l[i], l[j] = l[j], l[i] }
func (l *late) Push(x any)   { *l = append(*l, x.(parcel)) }
func (l *late) Pop() any {
	old := *l
	last := old[len(old)-1]
	*l = old[:len(old)-1]
	return last
}

const (
	maxWaiting = 8192    // packets on their way to a host; more are lost
	maxFlows   = 1 << 16 // connections whose beginning is remembered
	mtu        = 1500
)

// Network is the switch and its hosts. Safe for concurrent use.
type Network struct {
	spaces *spaces
	ports  []*port
	wires  map[netip.Addr]*wire

	mu     sync.Mutex
	flows  map[flow]time.Time // when each was begun
	number uint64
	work   sync.WaitGroup
}

// Host is a host to be: its name and its addresses, in 10.0.0.0/8, each with a name of its own.
type Host struct {
	Name  string
	Addrs []Addr
}

// Addr is an address of a host. The first of a host is whom it speaks as, unless it says otherwise.
type Addr struct {
	Name string
	IP   netip.Addr
}

// NewNetwork makes the devices of hosts in namespaces that MakeSpaces made, and plugs them in. Close unplugs them.
func NewNetwork(prefix string, hosts []Host) (*Network, error) {
	n := &Network{spaces: newSpaces(prefix), wires: map[netip.Addr]*wire{}, flows: map[flow]time.Time{}}
	for _, h := range hosts {
		p := &port{wake: make(chan struct{}, 1)}
		err := n.spaces.in(h.Name, func() (err error) {
			p.tun, err = openTun(h.Addrs)
			return err
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("plug in %s: %w", h.Name, err), n.Close())
		}
		n.ports = append(n.ports, p)
		for _, a := range h.Addrs {
			n.wires[a.IP] = &wire{port: p, name: a.Name}
		}
	}
	for _, p := range n.ports {
		n.work.Go(func() { n.carry(p) })
	}
	return n, nil
}

// Run delivers what is late, until ctx ends.
func (n *Network) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, p := range n.ports {
		wg.Go(func() { p.deliver(ctx) })
	}
	wg.Wait()
}

// Close unplugs all hosts.
func (n *Network) Close() error {
	var errs []error
	for _, p := range n.ports {
		errs = append(errs, p.tun.Close())
	}
	n.work.Wait()
	n.spaces.close()
	return errors.Join(errs...)
}

// In runs fn in the namespace of a host, on a thread of its own that all such calls share: it must be quick. A process
// that it starts, or a socket that it makes, stays there.
func (n *Network) In(host string, fn func() error) error { return n.spaces.in(host, fn) }

// Disturb has the packets from and to an address meet with trouble.
func (n *Network) Disturb(addr string, out, in Trouble) {
	for _, w := range n.wires {
		if w.name == addr {
			w.mu.Lock()
			w.out, w.in = out, in
			w.mu.Unlock()
		}
	}
}

// carry takes the packets of a host until it is unplugged.
func (n *Network) carry(p *port) {
	buf := make([]byte, mtu+64)
	for {
		size, err := p.tun.Read(buf)
		if errors.Is(err, fs.ErrClosed) {
			return
		}
		if err != nil || size == 0 {
			continue // the device is not up yet
		}
		h, ok := parse(buf[:size])
		from, to := n.wires[h.src], n.wires[h.dst]
		if !ok || from == nil || to == nil {
			continue // there is nobody else in this world
		}
		n.send(from, to, h, buf[:size])
	}
}

// begun is when a connection was; one that is not known is older than any fault.
func (n *Network) begun(h header, now time.Time) (time.Time, uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.number++
	if h.begins {
		if len(n.flows) >= maxFlows {
			clear(n.flows)
		}
		n.flows[h.flow] = now
	}
	return n.flows[h.flow], n.number
}

func (n *Network) send(from, to *wire, h header, packet []byte) {
	now := time.Now()
	begun, number := n.begun(h, now)
	from.mu.Lock()
	at, lost := from.out.fate(now, len(packet), begun, &from.free[0])
	again := from.out.Duplicate
	from.mu.Unlock()
	if lost {
		return
	}
	to.mu.Lock()
	at, lost = to.in.fate(at, len(packet), begun, &to.free[1])
	again = max(again, to.in.Duplicate)
	to.mu.Unlock()
	if lost {
		return
	}
	to.port.take(parcel{at, number, packet})
	if again > 0 && rand.Float64() < again {
		to.port.take(parcel{at, number, packet})
	}
}

// take delivers a packet, now or when it is due.
func (p *port) take(one parcel) {
	p.mu.Lock()
	direct := len(p.waiting) == 0 && !one.at.After(time.Now())
	if !direct && len(p.waiting) < maxWaiting {
		one.packet = append([]byte(nil), one.packet...)
		heap.Push(&p.waiting, one)
	}
	p.mu.Unlock()
	if direct {
		_, _ = p.tun.Write(one.packet) // a host that cannot take it loses it
		return
	}
	select {
	case p.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

// deliver hands over what is due, until ctx ends.
func (p *port) deliver(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
		wait := time.Hour
		for {
			p.mu.Lock()
			if len(p.waiting) == 0 {
				p.mu.Unlock()
				break
			}
			if ahead := time.Until(p.waiting[0].at); ahead > 0 {
				wait = ahead
				p.mu.Unlock()
				break
			}
			next := heap.Pop(&p.waiting).(parcel)
			p.mu.Unlock()
			_, _ = p.tun.Write(next.packet)
		}
		timer.Reset(wait)
	}
}
