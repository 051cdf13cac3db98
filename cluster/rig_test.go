package cluster

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"go.yaml.in/yaml/v3"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/rest"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/test/freeport"
)

// patience is for a machine that is busy with much else: no test waits for it to end.
const patience = time.Minute

// rig is a cluster agent on loopback, with everything that it has in the field.
type rig struct {
	t     *testing.T
	dir   string
	flags map[string]string
	admin adminContext
	off   atomic.Int64 // of the machine's clock, in nanoseconds

	*Agent
	log  *safeBuffer
	stop func() // once
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

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newRig(t *testing.T, flags map[string]string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), flags: map[string]string{"cluster": "c1", "advertise": "127.0.0.1", "mqtt.listen": freeport.Addr(t),
		"http.listen": freeport.Addr(t), "log.level": "warn", "mqtt.messages_per_second": "2000"}}
	r.flags["dir"] = r.dir
	for k, v := range flags {
		r.flags[k] = v
	}
	r.start()
	return r
}

// start starts the agent, for the first time or again.
func (r *rig) start() {
	r.t.Helper()
	cfg, err := configs.LoadCluster(configs.Source{Flags: r.flags})
	if err != nil {
		r.t.Fatal(err)
	}
	r.log = &safeBuffer{}
	if r.Agent, err = New(cfg, r.log); err != nil {
		r.t.Fatal(err)
	}
	r.uptime = func() time.Duration { return agent.SinceBoot() + time.Hour } // what it does just after a boot is tested elsewhere
	r.wall = func() time.Time { return time.Now().Round(0).Add(time.Duration(r.off.Load())) }
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				r.t.Errorf("run: %v", err)
			}
		case <-time.After(patience):
			r.t.Error("the agent does not stop")
		}
	})
	r.t.Cleanup(func() { r.stop() })
	eventually(r.t, "ready", func() bool {
		raw, err := os.ReadFile(filepath.Join(r.dir, "admin.yaml"))
		if err != nil {
			return false
		}
		var file contexts
		if yaml.Unmarshal(raw, &file) != nil || len(file.Contexts) != 1 {
			return false
		}
		r.admin = file.Contexts[0]
		resp, err := r.client(nil).Get(r.admin.Server + "/readyz")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (r *rig) trust(cert *tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(r.admin.CA))
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	return cfg
}

func (r *rig) client(cert *tls.Certificate) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: r.trust(cert), DisableKeepAlives: true}}
}

// caller is who makes a REST call: a bearer token, a certificate, or nobody.
type caller struct {
	token string
	cert  *tls.Certificate
}

func (r *rig) root() caller { return caller{token: r.admin.Token} }

// call makes a REST call and returns the answer's status and body.
func (r *rig) call(who caller, method, path, body string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.admin.Server+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if who.token != "" {
		req.Header.Set("Authorization", "Bearer "+who.token)
	}
	resp, err := r.client(who.cert).Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		return resp.StatusCode, ""
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, string(raw)
}

// must makes a call that has to succeed, and decodes the answer.
func must[T any](r *rig, method, path string, body any) T {
	r.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	status, text := r.call(r.root(), method, path, string(raw))
	var out T
	if status >= 300 {
		r.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			r.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	return out
}

func (r *rig) access(role api.Role) caller {
	r.t.Helper()
	return caller{token: must[api.AccessToken](r, "POST", "/v1/access-tokens", api.AccessRequest{Name: "t-" + string(role), Role: role}).Secret}
}

func keyAndCSR(t *testing.T) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func certOf(t *testing.T, key *ecdsa.PrivateKey, text string) *tls.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no certificate in %q", text)
	}
	return &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
}

// operator certifies somebody.
func (r *rig) operator(name string, role api.Role) *tls.Certificate {
	r.t.Helper()
	key, csr := keyAndCSR(r.t)
	op := must[api.Operator](r, "POST", "/v1/operators", api.OperatorRequest{Name: name, Role: role, CSR: csr})
	return certOf(r.t, key, op.PEM)
}

// enrol admits a node and returns its certificate.
func (r *rig) enrol(node string) *tls.Certificate {
	r.t.Helper()
	token := must[api.Token](r, "POST", "/v1/tokens", api.TokenRequest{TTL: "1h", MaxUses: 1})
	join, err := api.ParseJoin(token.Join)
	if err != nil {
		r.t.Fatal(err)
	}
	key, csr := keyAndCSR(r.t)
	reply := must[api.EnrollReply](r, "POST", "/v1/enroll", api.EnrollRequest{TokenID: join.ID, Secret: join.Secret, Node: node, CSR: csr})
	return certOf(r.t, key, reply.Certificate)
}

// peer is an MQTT client with what it was sent.
type peer struct {
	paho.Client
	r    *rig
	lost chan error

	mu  sync.Mutex
	got []paho.Message
	on  func(paho.Message)
}

func (r *rig) connect(id string, cert *tls.Certificate, filters ...string) *peer {
	r.t.Helper()
	p, err := r.tryConnect(id, cert, filters...)
	if err != nil {
		r.t.Fatalf("connect as %s: %v", id, err)
	}
	return p
}

func (r *rig) tryConnect(id string, cert *tls.Certificate, filters ...string) (*peer, error) {
	p := &peer{r: r, lost: make(chan error, 1)}
	opts := paho.NewClientOptions().AddBroker("ssl://" + r.flags["mqtt.listen"]).SetClientID(id).SetTLSConfig(r.trust(cert)).
		SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(patience).SetCleanSession(true)
	opts.SetConnectionLostHandler(func(_ paho.Client, err error) {
		select {
		case p.lost <- err:
		default:
		}
	})
	opts.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
		p.mu.Lock()
		p.got = append(p.got, m)
		on := p.on
		p.mu.Unlock()
		if on != nil {
			go on(m) // it publishes, which waits for what this goroutine reads
		}
	})
	p.Client = paho.NewClient(opts)
	if err := waitFor(p.Connect()); err != nil {
		return nil, err
	}
	r.t.Cleanup(func() { p.Disconnect(0) })
	for _, f := range filters {
		if err := waitFor(p.Subscribe(f, 1, nil)); err != nil {
			return p, err
		}
	}
	return p, nil
}

func waitFor(token paho.Token) error {
	if !token.WaitTimeout(patience) {
		return fmt.Errorf("no answer within %s", patience)
	}
	return token.Error()
}

// say publishes, and fails the test when the broker does not acknowledge it.
func (p *peer) say(topic string, retain bool, payload any) {
	p.r.t.Helper()
	raw, ok := payload.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(payload); err != nil {
			p.r.t.Fatal(err)
		}
	}
	if err := waitFor(p.Publish(topic, 1, retain, raw)); err != nil {
		p.r.t.Fatalf("publish %s %.80q: %v", topic, raw, err)
	}
}

// messages are those on a topic so far.
func (p *peer) messages(topic string) []paho.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []paho.Message
	for _, m := range p.got {
		if m.Topic() == topic {
			out = append(out, m)
		}
	}
	return out
}

// statuses are the phases that were published on a topic so far.
func (p *peer) statuses(topic string) (phases []api.Phase, last api.Status) {
	p.r.t.Helper()
	for _, m := range p.messages(topic) {
		last = api.Status{}
		if err := json.Unmarshal(m.Payload(), &last); err != nil {
			p.r.t.Fatal(err)
		}
		phases = append(phases, last.Phase)
	}
	return phases, last
}

// device is a node that does what a test needs of one.
type device struct {
	*peer
	id   string
	cert *tls.Certificate
}

func (r *rig) topic(kind mqtt.Kind, node, id string) string {
	t, err := mqtt.NewTopics("", "c1")
	if err != nil {
		r.t.Fatal(err)
	}
	return t.Of(kind, node, id)
}

// online connects a node, which says who it is. With obey it does what it is told.
func (r *rig) online(id string, cert *tls.Certificate, epoch uint64, obey bool) *device {
	r.t.Helper()
	d := &device{id: id, cert: cert}
	d.peer = r.connect(id, cert)
	if obey {
		topics := r.topics // a late order is obeyed while the agent is replaced
		d.on = func(m paho.Message) {
			topic, err := topics.Parse(m.Topic())
			if err != nil || topic.Kind != mqtt.KindCmd {
				return
			}
			for _, phase := range []api.Phase{api.PhaseAccepted, api.PhaseRunning, api.PhaseSucceeded} {
				raw, err := json.Marshal(api.Status{ID: topic.ID, Phase: phase, Epoch: epoch, At: api.At(time.Now())})
				if err != nil || waitFor(d.Publish(r.topic(mqtt.KindCmdStatus, id, topic.ID), 1, false, raw)) != nil {
					return // the test is over
				}
			}
		}
	}
	for _, kind := range []mqtt.Kind{mqtt.KindDesired, mqtt.KindCmd, mqtt.KindAck} {
		if err := waitFor(d.Subscribe(r.topic(kind, id, "+"), 1, nil)); err != nil {
			r.t.Fatal(err)
		}
	}
	now := api.At(time.Now())
	verbs := []api.Verb{{Name: "ping", Role: api.RoleOperator}, {Name: "config.set", Role: api.RoleAdmin}, {Name: "selfmade", Role: api.RoleViewer},
		{Name: "log.tail", Role: api.RoleOperator, Stream: true, Args: api.Schema{Type: "object"}}}
	d.say(r.topic(mqtt.KindState, id, ""), true, api.State{State: api.StateOnline, Epoch: epoch, Boot: "b", At: now})
	d.say(r.topic(mqtt.KindBirth, id, ""), true, api.Birth{Node: id, Cluster: "c1", Epoch: epoch, Boot: "b", At: now, TimeQuality: api.TimeSynced,
		Started: now, Version: "1", Verbs: verbs, IntervalMillis: 10_000})
	eventually(r.t, id+" is greeted", func() bool { return len(d.messages(r.topic(mqtt.KindDesired, id, ""))) > 0 })
	return d
}

// patienceEntries is how many refusals of nobody a slow machine may write on top of the burst, one a second.
const patienceEntries = 30

func restPrincipal(name string, role api.Role) rest.Principal {
	return rest.Principal{Name: name, Role: role, From: "127.0.0.1"}
}

// firstChange is the first item of a watch.
func (r *rig) firstChange(path string) string {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), "GET", r.admin.Server+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.admin.Token)
	resp, err := r.client(nil).Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			return data
		}
	}
	r.t.Fatalf("%s: no change, %v", path, lines.Err())
	return ""
}
