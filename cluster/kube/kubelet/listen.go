package kubelet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// Ports gives every virtual node a port of its own, on which the kubelet API answers for it. Safe for concurrent use.
type Ports struct {
	Host  string // to listen on; empty: all addresses
	First int
	Most  int // how many there are

	mu     sync.Mutex
	byNode map[string]int
	byPort map[int]string
	added  chan int
}

// NewPorts returns ports of which none is taken.
func NewPorts(host string, first, most int) *Ports {
	return &Ports{Host: host, First: first, Most: most, byNode: map[string]int{}, byPort: map[int]string{}, added: make(chan int, most)}
}

// Take returns the port of a node: was, which its Node object says, when it is free; else the first that is. 0 when all are taken.
func (p *Ports) Take(node string, was int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if port := p.byNode[node]; port != 0 {
		return port
	}
	if was < p.First || was >= p.First+p.Most || p.byPort[was] != "" {
		was = 0
		for port := p.First; port < p.First+p.Most; port++ {
			if p.byPort[port] == "" {
				was = port
				break
			}
		}
		if was == 0 {
			return 0
		}
	}
	if _, listening := p.byPort[was]; !listening {
		p.added <- was
	}
	p.byNode[node], p.byPort[was] = was, node
	return was
}

// Give has the port of a node that is no more be another's one day.
func (p *Ports) Give(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if port, ok := p.byNode[node]; ok {
		delete(p.byNode, node)
		p.byPort[port] = "" // it is still listened on
	}
}

// Node returns whose a port is.
func (p *Ports) Node(port int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byPort[port]
}

// Serve listens on each port that is taken, and serves h with cfg, until ctx ends. Open requests are cut off then: the ones that last
// are streams.
func (p *Ports) Serve(ctx context.Context, h http.Handler, cfg *tls.Config, fail func(error)) error {
	srv := &http.Server{Handler: h, TLSConfig: cfg, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer srv.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case port := <-p.added:
			serving.Go(func() { p.serve(ctx, srv, port, fail) })
		}
	}
}

// serve listens on one port, and tries again when somebody else has it.
func (p *Ports) serve(ctx context.Context, srv *http.Server, port int, fail func(error)) {
	wait := agent.Backoff{Min: time.Second, Max: time.Minute}
	for ctx.Err() == nil {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(p.Host, strconv.Itoa(port)))
		if err == nil {
			err = srv.ServeTLS(l, "", "")
		}
		if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
			return
		}
		fail(fmt.Errorf("kubelet port %d: %w", port, err))
		agent.Wait(ctx, wait.Next())
	}
}
