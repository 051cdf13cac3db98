// Package tunnel has the API servers of a k3s cluster reach the kubelet API of our virtual nodes, as k3s's own agents do it: one
// outbound websocket to every server, through which the server asks for connections to a loopback port. A server has no other way to
// a kubelet: what it cannot tunnel is refused with 502.
package tunnel

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// Config of a Tunnel. All fields are set.
type Config struct {
	// Follow tells the addresses (host:port) of all servers, and again when they change, until ctx ends.
	Follow func(ctx context.Context, tell func(servers []string))
	// TLS trusts the servers, and shows them the certificate of the host name that our nodes have: it is the session's key.
	TLS *tls.Config
	// Open tells whether a port is the kubelet API's of one of our nodes.
	Open func(port int) bool
	// Host is where these ports are listened on.
	Host string
	Log  *slog.Logger
	Now  func() time.Time
}

// Tunnel keeps the sessions. New builds it, Run is called once.
type Tunnel struct {
	cfg Config

	mu       sync.Mutex
	sessions []*session // by address
}

// New returns a tunnel.
func New(cfg Config) *Tunnel { return &Tunnel{cfg: cfg} }

// settle is how long a change of the servers has to last: one that joins comes and goes several times.
const settle = time.Second

// Run keeps a session with each server until ctx ends. It returns when all of them, and all connections through them, have ended.
func (t *Tunnel) Run(ctx context.Context) error {
	var following, running sync.WaitGroup
	defer running.Wait()
	defer following.Wait()
	changes := make(chan []string)
	following.Go(func() {
		t.cfg.Follow(ctx, func(servers []string) {
			select {
			case changes <- servers:
			case <-ctx.Done():
			}
		})
	})
	var wanted []string
	due := time.NewTimer(settle)
	due.Stop()
	for first := true; ; {
		select {
		case <-ctx.Done():
			return nil
		case wanted = <-changes:
			if first {
				due.Reset(0)
			} else {
				due.Reset(settle)
			}
			first = false
		case <-due.C:
			t.want(ctx, &running, wanted)
		}
	}
}

// want begins and ends sessions so that there is one with each server. One that ends has ended when want returns.
func (t *Tunnel) want(ctx context.Context, running *sync.WaitGroup, servers []string) {
	t.mu.Lock()
	old := t.sessions
	t.sessions = nil
	var begun []*session
	for _, address := range slices.Compact(slices.Sorted(slices.Values(servers))) {
		i := slices.IndexFunc(old, func(s *session) bool { return s.address == address })
		if i < 0 {
			s := &session{address: address, cfg: &t.cfg, since: t.cfg.Now(), done: make(chan struct{})}
			t.sessions, begun = append(t.sessions, s), append(begun, s)
			continue
		}
		t.sessions = append(t.sessions, old[i])
		old = slices.Delete(old, i, i+1)
	}
	t.mu.Unlock()
	for _, s := range old {
		s.cancel()
		<-s.done
		t.cfg.Log.Info("k3s server is gone, and its tunnel session", agent.KeyAddr, s.address)
	}
	for _, s := range begun {
		sctx, cancel := context.WithCancel(ctx)
		s.cancel = cancel
		running.Go(func() { s.run(sctx) })
	}
}

// Status is how each session stands.
func (t *Tunnel) Status() []api.TunnelStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]api.TunnelStatus, len(t.sessions))
	for i, s := range t.sessions {
		out[i] = s.status()
	}
	return out
}

// session is what there is to one server: a websocket as a rule, and the waits between them.
type session struct {
	address string
	cfg     *Config
	cancel  context.CancelFunc
	done    chan struct{}

	mu    sync.Mutex
	up    bool
	since time.Time
	why   error
}

// The bounds of the wait between two attempts. A server that restarts is back within seconds, and without a session nothing gets to
// our nodes by way of it.
const (
	retryMin = 500 * time.Millisecond
	retryMax = 15 * time.Second
	stable   = time.Minute
)

func (s *session) run(ctx context.Context) {
	defer close(s.done)
	wait := agent.Backoff{Min: retryMin, Max: retryMax}
	for {
		began := s.cfg.Now()
		err := s.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		s.note(false, err)
		if s.cfg.Now().Sub(began) > stable {
			wait.Reset()
		}
		if !agent.Wait(ctx, max(wait.Next(), retryMin/4)) {
			return
		}
	}
}

// note keeps how the session stands. It is logged when it changes.
func (s *session) note(up bool, err error) {
	s.mu.Lock()
	changed := s.up != up || (!up && s.why == nil)
	if changed {
		s.since = s.cfg.Now()
	}
	s.up, s.why = up, err
	s.mu.Unlock()
	switch {
	case up:
		s.cfg.Log.Info("k3s server has a tunnel session", agent.KeyAddr, s.address)
	case changed:
		s.cfg.Log.Warn("k3s server has no tunnel session", agent.KeyAddr, s.address, agent.KeyErr, err)
	}
}

func (s *session) status() api.TunnelStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := api.TunnelStatus{Server: s.address, Connected: s.up, Since: api.At(s.since)}
	if s.why != nil {
		st.Reason = strings.Join(strings.Fields(s.why.Error()), " ")
	}
	return st
}
