package broker_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/mqtt/broker"
)

// patience is for a machine that is busy with much else: no test waits for it to end.
const patience = time.Minute

// authority is a CA made for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign}
	a := &authority{cert: template, key: key, pool: x509.NewCertPool()}
	der := a.sign(t, template, key)
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(t testing.TB, template *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (a *authority) server(t testing.TB) tls.Certificate {
	return a.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
}

func (a *authority) client(t testing.TB, id mqtt.Identity) tls.Certificate {
	return a.issue(t, &x509.Certificate{Subject: id.Subject(), URIs: []*url.URL{id.URI()}, NotAfter: id.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

func (a *authority) issue(t testing.TB, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der := a.sign(t, template, key)
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func node(name string) mqtt.Identity {
	return mqtt.Identity{Kind: mqtt.NodeIdentity, Name: name, Cluster: "c1"}
}

func person(name string, role api.Role) mqtt.Identity {
	return mqtt.Identity{Kind: mqtt.OperatorIdentity, Name: name, Role: role, Cluster: "c1"}
}

// world is a running broker with what happened in it.
type world struct {
	*broker.Broker
	t      testing.TB
	ca     *authority
	topics mqtt.Topics
	log    *safeBuffer
	stop   func() error // once; the cleanup calls it too

	mu      sync.Mutex
	handled []broker.Inbound
	events  []string
	handle  func(ctx context.Context, m broker.Inbound) error // nil: store
	denied  map[string]error
	now     func() time.Time
}

func newWorld(t testing.TB, tweak ...func(*broker.Config)) *world {
	t.Helper()
	topics, err := mqtt.NewTopics("", "c1")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, ca: newAuthority(t), topics: topics, log: &safeBuffer{}, denied: map[string]error{}, now: time.Now}
	cfg := broker.Config{
		Addr:      "127.0.0.1:0",
		TLS:       &tls.Config{Certificates: []tls.Certificate{w.ca.server(t)}, ClientCAs: w.ca.pool},
		Topics:    topics,
		Authorize: w.authorize,
		Handle:    w.onMessage,
		OnConnect: func(id mqtt.Identity) { w.event("connect " + id.CommonName()) },
		OnDisconnect: func(id mqtt.Identity, reason error) {
			if reason == nil {
				w.event("disconnect " + id.CommonName())
			} else {
				w.event("lose " + id.CommonName() + ": " + reason.Error())
			}
		},
		Log: slog.New(slog.NewTextHandler(w.log, nil)),
		Now: func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now() },
	}
	for _, f := range tweak {
		f(&cfg)
	}
	if w.Broker, err = broker.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-w.Ready():
	case err := <-done:
		t.Fatalf("Run ended early: %v", err)
	}
	return w
}

func (w *world) authorize(cert *x509.Certificate) (mqtt.Identity, error) {
	id, err := mqtt.IdentityOf(cert)
	if err != nil {
		return id, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return id, w.denied[id.CommonName()]
}

func (w *world) onMessage(ctx context.Context, m broker.Inbound) error {
	w.mu.Lock()
	f := w.handle
	w.mu.Unlock()
	if f != nil {
		if err := f(ctx, m); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handled = append(w.handled, m)
	w.events = append(w.events, "handle "+w.topics.Of(m.Topic.Kind, m.Topic.Node, m.Topic.ID)+" "+string(m.Payload))
	return nil
}

func (w *world) onHandle(f func(ctx context.Context, m broker.Inbound) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handle = f
}

func (w *world) deny(name string, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.denied[name] = why
}

func (w *world) event(e string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

func (w *world) happened() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.events...)
}

// tls is the client's side, with a certificate of w's CA for id.
func (w *world) tls(id mqtt.Identity) *tls.Config {
	w.t.Helper()
	return w.tlsWith(w.ca.client(w.t, id))
}

func (w *world) tlsWith(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: w.ca.pool, ServerName: "localhost", Certificates: certs}
}

// join connects a paho client, and fails the test if it cannot.
func (w *world) join(id mqtt.Identity, tweak ...func(*paho.ClientOptions)) paho.Client {
	w.t.Helper()
	c, err := w.try(id, tweak...)
	if err != nil {
		w.t.Fatalf("connect %s: %v\nlog: %s", id.CommonName(), err, w.log)
	}
	return c
}

func (w *world) try(id mqtt.Identity, tweak ...func(*paho.ClientOptions)) (paho.Client, error) {
	w.t.Helper()
	opts := paho.NewClientOptions().AddBroker("ssl://" + w.Addr().String()).SetTLSConfig(w.tls(id)).SetClientID(id.Name).
		SetAutoReconnect(false).SetConnectTimeout(patience).SetProtocolVersion(4).SetOrderMatters(true)
	for _, f := range tweak {
		f(opts)
	}
	c := paho.NewClient(opts)
	if err := settle(c.Connect()); err != nil {
		return nil, err
	}
	w.t.Cleanup(func() { c.Disconnect(0) })
	return c, nil
}

func settle(token paho.Token) error {
	if !token.WaitTimeout(patience) {
		return context.DeadlineExceeded
	}
	return token.Error()
}

// reads subscribes and returns what arrives.
func (w *world) reads(c paho.Client, filter string) <-chan paho.Message {
	w.t.Helper()
	out := make(chan paho.Message, 4096)
	token := c.Subscribe(filter, 1, func(_ paho.Client, m paho.Message) { out <- m })
	if err := settle(token); err != nil {
		w.t.Fatalf("subscribe %s: %v", filter, err)
	}
	if code := token.(*paho.SubscribeToken).Result()[filter]; code > 1 {
		w.t.Fatalf("subscribe %s: SUBACK %#x", filter, code)
	}
	return out
}

func (w *world) send(c paho.Client, topic, payload string, retain bool) {
	w.t.Helper()
	if err := settle(c.Publish(topic, 1, retain, payload)); err != nil {
		w.t.Fatalf("publish %s: %v", topic, err)
	}
}

func next(t testing.TB, in <-chan paho.Message) paho.Message {
	t.Helper()
	select {
	case m := <-in:
		return m
	case <-time.After(patience):
		t.Fatal("no message arrived")
		return nil
	}
}

// eventually polls: the broker tells of most things after the client could notice them.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *safeBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }
