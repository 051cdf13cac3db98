package swarm

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/identity"
)

// papers are the certificates of all nodes, and what they have in common. Of each node little more than key and
// certificate is kept: a parsed identity takes some ten KiB.
type papers struct {
	certs     []tls.Certificate // by index
	cluster   string
	root      string
	servers   []string
	pool      *x509.CertPool
	orderKeys []ed25519.PublicKey
}

// enrolWorkers is how many nodes enrol at once.
const enrolWorkers = 8

// enrolment gets every node its papers: from the directory of an earlier run, or from the enrolment service.
type enrolment struct {
	cfg   *Config
	clock *agent.Clock
	done  *atomic.Int64 // nodes that have theirs

	mu    sync.Mutex
	p     *papers
	pause time.Time // nobody asks before: the service said that it is busy
}

// enrol returns the papers of n nodes.
func enrol(ctx context.Context, cfg *Config, clock *agent.Clock, done *atomic.Int64) (*papers, error) {
	n := cfg.Profile.Nodes
	e := &enrolment{cfg: cfg, clock: clock, done: done, p: &papers{certs: make([]tls.Certificate, n)}}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range enrolWorkers {
		wg.Go(func() {
			for i := range next {
				if err := e.one(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("enrol nodes: %w", err)
	}
	return e.p, e.p.choose(cfg)
}

func (e *enrolment) one(ctx context.Context, i int) error {
	node := name(e.cfg.Profile.Prefix, i)
	dir := ""
	if e.cfg.Identities != "" {
		dir = filepath.Join(e.cfg.Identities, node)
		id, err := identity.Load(dir)
		if err == nil && id.Enrolled() {
			return e.take(i, id)
		}
		if err != nil && !identity.IsNone(err) {
			return err
		}
	}
	if e.cfg.Join.ID == "" {
		return fmt.Errorf("%s has no certificate in %q, and there is no join string; give --join or --access", node, e.cfg.Identities)
	}
	id, err := identity.New(node)
	if err != nil {
		return err
	}
	if id, err = e.ask(ctx, i, id); err != nil {
		return fmt.Errorf("enrol %s: %w", node, err)
	}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("keep identity: %w", err)
		}
		if err := id.Save(dir); err != nil {
			return err
		}
	}
	return e.take(i, id)
}

// ask asks the enrolment service, at the pace that it allows to each address.
func (e *enrolment) ask(ctx context.Context, i int, id *identity.Identity) (*identity.Identity, error) {
	client := &identity.Client{Clock: e.clock, Host: host(""), Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 10 * time.Second, LocalAddr: e.cfg.source(i, addr)}).DialContext(ctx, network, addr)
	}}
	csr, err := id.CSR()
	if err != nil {
		return nil, err
	}
	for failures := 0; ; {
		if !agent.Wait(ctx, e.wait()) {
			return nil, ctx.Err()
		}
		reply, err := client.Enroll(ctx, &e.cfg.Join, &api.EnrollRequest{Node: id.Node, CSR: csr, Labels: map[string]string{"swarm": e.cfg.Profile.Prefix}})
		busy, ok := errors.AsType[*identity.BusyError](err)
		switch {
		case ok: // its word holds for all who have this address, and the others come back soon enough
			e.putOff(max(busy.Wait, time.Second))
			continue
		case err == nil && reply.Status == api.EnrollPending:
			return nil, e.waits(reply)
		case err == nil:
			return id.With(reply, e.cfg.Join.CASHA256)
		}
		if _, refused := errors.AsType[*api.Problem](err); refused || failures == 5 {
			return nil, err
		}
		failures++
		e.putOff(time.Second)
	}
}

// waits says why a person is to decide about a simulated node: its name is taken, or the token wants it of everybody.
func (e *enrolment) waits(reply *api.EnrollReply) error {
	if !strings.Contains(reply.Message, "is there already with another key") {
		return errors.New("the join token wants a person's approval; make one without")
	}
	prefix := e.cfg.Profile.Prefix
	return fmt.Errorf("it is there already with another key, that of an earlier run: take those nodes away (skerry node remove -l swarm=%s --yes), "+
		"or give this run another --prefix, or the --identities of that one", prefix)
}

// wait is how long to wait before asking.
func (e *enrolment) wait() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	left := time.Until(e.pause)
	if left <= 0 {
		return 0
	}
	return left + rand.N(500*time.Millisecond)
}

func (e *enrolment) putOff(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if until := time.Now().Add(d); until.After(e.pause) {
		e.pause = until
	}
}

// take keeps what is needed of id.
func (e *enrolment) take(i int, id *identity.Identity) error {
	cert := id.TLSCertificate()
	cert.Leaf = nil
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.p
	if p.pool == nil {
		p.cluster, p.root, p.servers, p.pool, p.orderKeys = id.Cluster, id.Root, id.MQTT, id.Pool(), id.OrderPublicKeys()
	}
	if id.Cluster != p.cluster || !id.Pool().Equal(p.pool) {
		return fmt.Errorf("%s is of cluster %s, others of %s, or of another CA; use a directory for each cluster", id.Node, id.Cluster, p.cluster)
	}
	p.certs[i] = cert
	e.done.Add(1)
	return nil
}

// choose finds the brokers: those that the user gave, or those of the cluster agent that are on a machine that the user
// named. Nothing else is ever connected to.
func (p *papers) choose(cfg *Config) error {
	if len(cfg.URLs) > 0 {
		p.servers = cfg.URLs
		return nil
	}
	var named, good []string
	for _, text := range append(slices.Clone(cfg.Join.Endpoints), cfg.Named...) {
		if u, err := url.Parse(text); err == nil {
			named = append(named, u.Hostname())
		}
	}
	for _, text := range p.servers {
		if u, err := url.Parse(text); err == nil && slices.Contains(named, u.Hostname()) {
			good = append(good, text)
		}
	}
	if len(good) == 0 {
		return fmt.Errorf("brokers %v are not on a machine that was named (%v); give --url", p.servers, named)
	}
	p.servers = good
	return nil
}

// permitted refuses every address but those of the servers.
func (p *papers) permitted(addr string) error {
	for _, text := range p.servers {
		u, err := url.Parse(text)
		if err != nil {
			continue
		}
		port := u.Port()
		if port == "" {
			port = "8883"
		}
		if addr == net.JoinHostPort(u.Hostname(), port) {
			return nil
		}
	}
	return fmt.Errorf("connect to %s: it is none of %v", addr, p.servers)
}
