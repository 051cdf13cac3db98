package broker_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/mqtt/broker"
)

// victim is a node whose session, state and orders an attacker is after.
type victim struct {
	*world
	client paho.Client
	orders <-chan paho.Message
	viewer <-chan paho.Message
}

func newVictim(t *testing.T) *victim {
	w := newWorld(t)
	v := &victim{world: w, client: w.join(node("good"))}
	v.orders = w.reads(v.client, w.topics.Filter(mqtt.KindCmd, "good"))
	w.send(v.client, w.topics.Of(mqtt.KindState, "good", ""), "online", true)
	v.viewer = w.reads(w.join(person("eve", api.RoleViewer)), w.topics.All())
	if m := next(t, v.viewer); string(m.Payload()) != "online" {
		t.Fatalf("viewer got %q", m.Payload())
	}
	return v
}

// unharmed fails the test unless the victim has its session, and nothing but it speaks in its name.
func (v *victim) unharmed(t *testing.T) {
	t.Helper()
	if !v.client.IsConnectionOpen() {
		t.Error("victim lost its session")
	}
	if err := v.Publish(t.Context(), v.topics.Of(mqtt.KindCmd, "good", "k1"), []byte("real"), false); err != nil {
		t.Fatal(err)
	}
	if m := next(t, v.orders); string(m.Payload()) != "real" {
		t.Errorf("victim got order %q; wanted the real one alone", m.Payload())
	}
	v.send(v.client, v.topics.Of(mqtt.KindEvent, "good", ""), "fine", false)
	m := next(t, v.viewer)
	for string(m.Payload()) == "online" { // acknowledged and kept before it is passed on: who subscribes in between has it twice
		m = next(t, v.viewer)
	}
	if string(m.Payload()) != "fine" {
		t.Errorf("viewer got %s %q; wanted the victim's event alone", m.Topic(), m.Payload())
	}
	late := v.reads(v.join(person("bob", api.RoleViewer)), v.topics.Of(mqtt.KindState, "good", ""))
	if m := next(t, late); string(m.Payload()) != "online" {
		t.Errorf("retained state is %q; wanted the victim's", m.Payload())
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range v.handled {
		if m.From.CommonName() != "good" {
			t.Errorf("the agent was given %s %q from %s", m.Raw, m.Payload, m.From.CommonName())
		}
	}
}

func TestAStolenNodeCertificatePublishesForNobodyElse(t *testing.T) {
	topics, err := mqtt.NewTopics("", "c1")
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]struct {
		topic  string
		retain bool
	}{
		"other node's telemetry":         {topics.Of(mqtt.KindTele, "good", ""), false},
		"other node's retained state":    {topics.Of(mqtt.KindState, "good", ""), true},
		"clear other's retained state":   {topics.Of(mqtt.KindState, "good", ""), true},
		"forged command to itself":       {topics.Of(mqtt.KindCmd, "bad", "k9"), false},
		"forged command to another":      {topics.Of(mqtt.KindCmd, "good", "k9"), false},
		"forged desired":                 {topics.Of(mqtt.KindDesired, "good", ""), true},
		"forged ack":                     {topics.Of(mqtt.KindAck, "good", ""), false},
		"request as an operator":         {topics.Of(mqtt.KindRequest, "good", "r9"), false},
		"request status":                 {topics.Of(mqtt.KindRequestStatus, "good", "r9"), false},
		"frame into another's stream":    {topics.Of(mqtt.KindStreamDown, "good", "s1"), false},
		"$SYS":                           {"$SYS/broker/uptime", true},
		"another root":                   {"elsewhere/bad/state", false},
		"an unknown kind":                {topics.Of(mqtt.KindState, "bad", "") + "x", false},
		"retained where nothing is kept": {topics.Of(mqtt.KindTele, "bad", ""), true},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVictim(t)
			r := v.dial(v.tls(node("bad")))
			if code := r.connect("bad"); code != 0 {
				t.Fatalf("CONNACK %d", code)
			}
			payload := "forged"
			if strings.HasPrefix(name, "clear") {
				payload = ""
			}
			r.publish(1, a.topic, payload, a.retain)
			r.closed() // and no PUBACK
			if n := v.Stats().Refused; n["publish"]+n["retain"] != 1 {
				t.Errorf("refused %v; wanted one publish", n)
			}
			if !strings.Contains(v.log.String(), "bad") {
				t.Errorf("log does not say who: %s", v.log)
			}
			v.unharmed(t)
		})
	}
}

func TestAStolenNodeCertificateListensToNobodyElse(t *testing.T) {
	v := newVictim(t)
	r := v.dial(v.tls(node("bad")))
	r.connect("bad")
	filters := []string{
		"#", "+/#", "+/+/+/+/+", "$SYS/#", "$share/g/" + v.topics.All(), "$share/g/" + v.topics.Filter(mqtt.KindCmd, "bad"),
		v.topics.All(), v.topics.Node("bad"), v.topics.Node("good"), v.topics.Filter(mqtt.KindCmd, "+"),
		v.topics.Filter(mqtt.KindCmd, "good"), v.topics.Of(mqtt.KindDesired, "good", ""), v.topics.Of(mqtt.KindState, "good", ""),
		v.topics.Filter(mqtt.KindStreamDown, "good"), v.topics.Of(mqtt.KindState, "bad", ""), v.topics.Filter(mqtt.KindCmdStatus, "bad"),
	}
	for i, filter := range filters {
		r.write(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, ProtocolVersion: 4,
			PacketID: uint16(i + 1), Filters: packets.Subscriptions{{Filter: filter, Qos: 1}}})
		ack, err := r.read(patience)
		if err != nil || ack.FixedHeader.Type != packets.Suback || len(ack.ReasonCodes) != 1 || ack.ReasonCodes[0] != 0x80 {
			t.Errorf("subscribe %q: got packet %d with %#x, %v; wanted SUBACK 0x80", filter, ack.FixedHeader.Type, ack.ReasonCodes, err)
		}
	}
	if n := v.Stats().Refused["subscribe"]; n != uint64(len(filters)) {
		t.Errorf("refused %d; wanted %d", n, len(filters))
	}
	v.unharmed(t)
	r.silent(100 * time.Millisecond) // still there, for SUBACK says enough; and nothing was overheard
}

func TestNobodyTakesOverAnothersSession(t *testing.T) {
	v := newVictim(t)
	withID := func(id string) func(*paho.ClientOptions) {
		return func(o *paho.ClientOptions) { o.SetClientID(id) }
	}
	if _, err := v.try(node("bad"), withID("good")); err == nil {
		t.Error("a node connected with another's client id")
	}
	if !strings.Contains(v.log.String(), `client id \"good\"`) {
		t.Errorf("log does not say why: %s", v.log)
	}
	v.join(person("mallory", api.RoleViewer), withID("good")) // his own session of that name
	v.join(person("admin", api.RoleAdmin), withID("operator:mallory/good"))
	v.unharmed(t)
}

func TestOneOperatorHasAsManySessionsAsItWants(t *testing.T) {
	w := newWorld(t)
	eve := person("eve", api.RoleViewer)
	first := w.join(eve, func(o *paho.ClientOptions) { o.SetClientID("one") })
	w.join(eve, func(o *paho.ClientOptions) { o.SetClientID("two") })
	w.join(eve, func(o *paho.ClientOptions) { o.SetClientID("") }) // as mosquitto_sub does
	if !first.IsConnectionOpen() || len(w.Connected()) != 3 {
		t.Errorf("%d sessions, first open %t; wanted 3", len(w.Connected()), first.IsConnectionOpen())
	}
}

func TestConnectIsRefusedForWhatCannotBeKept(t *testing.T) {
	topics, err := mqtt.NewTopics("", "c1")
	if err != nil {
		t.Fatal(err)
	}
	will := func(topic string, retain bool, size int) func(*packets.Packet) {
		return func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillRetain = true, topic, retain
			pk.Connect.WillPayload, pk.Connect.WillQos = []byte(strings.Repeat("x", size)), 1
		}
	}
	for name, tweak := range map[string]func(*packets.Packet){
		"no client id":           func(pk *packets.Packet) { pk.Connect.ClientIdentifier = "" },
		"no keepalive":           func(pk *packets.Packet) { pk.Connect.Keepalive = 0 },
		"will for another":       will(topics.Of(mqtt.KindState, "good", ""), true, 4),
		"will on its own orders": will(topics.Of(mqtt.KindCmd, "bad", "k1"), false, 4),
		"will on $SYS":           will("$SYS/broker", false, 4),
		"will with a wildcard":   will(topics.Filter(mqtt.KindState, "+"), false, 4),
		"retained will on tele":  will(topics.Of(mqtt.KindTele, "bad", ""), true, 4),
		"will beyond the limit":  will(topics.Of(mqtt.KindState, "bad", ""), true, 5<<10),
	} {
		t.Run(name, func(t *testing.T) {
			v := newVictim(t)
			r := v.dial(v.tls(node("bad")))
			if code := r.connect("bad", tweak); code == 0 {
				t.Fatal("CONNACK 0; wanted a refusal")
			}
			r.closed()
			if n := v.Stats().Refused["connect"]; n != 1 {
				t.Errorf("refused %d; wanted 1", n)
			}
			v.unharmed(t)
		})
	}
}

func TestProtocolAbuseEndsTheConnection(t *testing.T) {
	tele := func(v *victim) string { return v.topics.Of(mqtt.KindTele, "bad", "") }
	for name, abuse := range map[string]func(v *victim, r *raw){
		"QoS 2": func(v *victim, r *raw) {
			r.write(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 2}, PacketID: 1,
				TopicName: tele(v), Payload: []byte("x")})
		},
		"oversize packet": func(v *victim, r *raw) { r.publish(1, tele(v), strings.Repeat("x", 200<<10), false) },
		"second CONNECT": func(v *victim, r *raw) {
			r.write(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4,
				Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: true, Keepalive: 9, ClientIdentifier: "bad"}})
		},
		"wildcard publish": func(v *victim, r *raw) { r.publish(1, v.topics.Filter(mqtt.KindState, "+"), "x", false) },
	} {
		t.Run(name, func(t *testing.T) {
			v := newVictim(t)
			r := v.dial(v.tls(node("bad")))
			r.connect("bad")
			abuse(v, r)
			r.closed()
			v.unharmed(t)
		})
	}
}

func TestViewersReadWhatNodesSayAndOperatorsAlsoWhatBecameOfCommands(t *testing.T) {
	w := newWorld(t)
	n1 := w.join(node("n1"))
	if err := settle(n1.SubscribeMultiple(map[string]byte{w.topics.Filter(mqtt.KindCmd, "n1"): 1, w.topics.Of(mqtt.KindDesired, "n1", ""): 1}, nil)); err != nil {
		t.Fatal(err)
	}
	seen, told := w.reads(w.join(person("eve", api.RoleViewer)), w.topics.All()), w.reads(w.join(person("ann", api.RoleOperator)), w.topics.All())
	for _, kind := range []mqtt.Kind{mqtt.KindDesired, mqtt.KindCmd, mqtt.KindAck, mqtt.KindStreamDown, mqtt.KindRequestStatus} {
		e, _ := mqtt.EntryOf(kind)
		if err := w.Publish(t.Context(), w.topics.Of(kind, "n1", "k1"), []byte(e.Name), e.Retain); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []mqtt.Kind{mqtt.KindStreamUp, mqtt.KindCmdStatus, mqtt.KindTele} {
		e, _ := mqtt.EntryOf(kind)
		w.send(n1, w.topics.Of(kind, "n1", "k1"), e.Name, false)
	}
	for _, want := range []string{"RequestStatus", "Status", "Batch"} {
		if m := next(t, told); string(m.Payload()) != want {
			t.Errorf("operator got %s %q; wanted %s", m.Topic(), m.Payload(), want)
		}
	}
	if m := next(t, seen); string(m.Payload()) != "Batch" { // output and results are not for viewers
		t.Errorf("viewer got %s %q; wanted the batch alone", m.Topic(), m.Payload())
	}
	// And what is retained of it does not come out later either.
	late := w.reads(w.join(person("bob", api.RoleViewer)), w.topics.Node("n1"))
	w.send(n1, w.topics.Of(mqtt.KindTele, "n1", ""), "last", false)
	if m := next(t, late); string(m.Payload()) != "last" {
		t.Errorf("late viewer got %s %q", m.Topic(), m.Payload())
	}
}

func TestOnlyOperatorsMakeRequests(t *testing.T) {
	for role, allowed := range map[api.Role]bool{api.RoleViewer: false, api.RoleOperator: true, api.RoleAdmin: true} {
		w := newWorld(t)
		c := w.join(person("eve", role))
		err := settle(c.Publish(w.topics.Of(mqtt.KindRequest, "n1", "r1"), 1, false, "{}"))
		eventually(t, "request is decided", func() bool { return allowed && err == nil || !c.IsConnectionOpen() })
		w.mu.Lock()
		if got := len(w.handled) == 1; got != allowed {
			t.Errorf("%s: request handled %t; wanted %t", role, got, allowed)
		}
		w.mu.Unlock()
	}
}

func TestCertificatesThatDoNotCountAreRefusedAndTheLogSaysWhy(t *testing.T) {
	expired := node("n1")
	expired.NotAfter = time.Now().Add(-time.Minute)
	foreign := node("n1")
	foreign.Cluster = "c2"
	other := newAuthority(t)
	for name, c := range map[string]struct {
		tls  func(w *world) *tls.Config
		says string
	}{
		"none":     {func(w *world) *tls.Config { return w.tlsWith() }, "didn't provide a certificate"},
		"expired":  {func(w *world) *tls.Config { return w.tls(expired) }, "expired"},
		"wrong CA": {func(w *world) *tls.Config { return w.tlsWith(other.client(t, node("n1"))) }, "unknown authority"},
		"revoked": {func(w *world) *tls.Config {
			w.deny("n1", errors.New("revoked on Tuesday"))
			return w.tls(node("n1"))
		}, "revoked on Tuesday"},
		"of another cluster": {func(w *world) *tls.Config { return w.tls(foreign) }, "c2"},
		"for servers":        {func(w *world) *tls.Config { return w.tlsWith(w.ca.server(t)) }, "incompatible key usage"},
		"name and URI disagree": {func(w *world) *tls.Config {
			return w.tlsWith(w.ca.issue(t, &x509.Certificate{Subject: node("good").Subject(), URIs: []*url.URL{node("n1").URI()},
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}))
		}, "disagree"},
		"not of ours": {func(w *world) *tls.Config {
			return w.tlsWith(w.ca.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "n1"},
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}))
		}, "no Skerry client's"},
		"TLS 1.2": {func(w *world) *tls.Config {
			cfg := w.tls(node("n1"))
			cfg.MaxVersion = tls.VersionTLS12
			return cfg
		}, "unsupported version"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			opts := paho.NewClientOptions().AddBroker("ssl://" + w.Addr().String()).SetTLSConfig(c.tls(w)).SetClientID("n1").
				SetConnectTimeout(patience).SetProtocolVersion(4)
			if err := settle(paho.NewClient(opts).Connect()); err == nil {
				t.Fatal("connected")
			}
			eventually(t, "log says "+c.says, func() bool { return strings.Contains(w.log.String(), c.says) })
			if s := w.Stats(); s.Accepted != 0 || s.Connections != 0 || len(s.Refused) != 1 {
				t.Errorf("stats %+v; wanted one refusal", s)
			}
		})
	}
}

func TestARevokedNodeIsToldInConnack(t *testing.T) {
	w := newWorld(t)
	w.deny("n1", errors.New("revoked"))
	r := w.dial(w.tls(node("n1")))
	if code := r.connect("n1"); code != 5 {
		t.Errorf("CONNACK %d; wanted 5, not authorized", code)
	}
	r.closed()
}

func TestACertificateThatEndsEndsItsSession(t *testing.T) {
	w := newWorld(t)
	n1 := w.join(node("n1"))
	forever := node("n2")
	forever.NotAfter = time.Now().Add(20 * time.Hour)
	n2 := w.join(forever)
	w.mu.Lock()
	w.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	w.mu.Unlock()
	eventually(t, "n1's session ends", func() bool {
		return slices.Contains(w.happened(), "lose n1: "+broker.ErrExpired.Error()) && !n1.IsConnectionOpen()
	})
	if !n2.IsConnectionOpen() {
		t.Error("n2's certificate is good, but its session ended")
	}
}

func TestRevocationBetweenHandshakeAndSessionIsNotMissed(t *testing.T) {
	var w *world
	asked, answer := make(chan struct{}), make(chan struct{})
	w = newWorld(t, func(c *broker.Config) {
		c.Authorize = func(cert *x509.Certificate) (mqtt.Identity, error) {
			close(asked)
			<-answer
			return mqtt.IdentityOf(cert) // decided before the revocation
		}
	})
	r := w.dial(w.tls(node("n1")))
	<-asked
	if n := w.Kick("n1"); n != 1 {
		t.Errorf("kicked %d; wanted 1", n)
	}
	close(answer)
	r.closed()
	if n := len(w.Connected()); n != 0 {
		t.Errorf("%d sessions; wanted none", n)
	}
}

func TestTheClusterIdentityIsNotTakenForANode(t *testing.T) {
	w := newWorld(t)
	c := w.join(mqtt.Identity{Kind: mqtt.ClusterIdentity, Name: "c1", Cluster: "c1"})
	n1 := w.join(node("n1"))
	got := w.reads(n1, w.topics.Filter(mqtt.KindCmd, "n1"))
	w.onHandle(func(context.Context, broker.Inbound) error { return errors.New("not asked about what goes down") })
	w.send(c, w.topics.Of(mqtt.KindCmd, "n1", "k1"), "order", false)
	if m := next(t, got); string(m.Payload()) != "order" {
		t.Errorf("node got %q", m.Payload())
	}
}

func TestATicketSparesNobodyTheCheck(t *testing.T) {
	w := newWorld(t)
	cfg := w.tls(node("n1"))
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i, resumed := range []bool{false, true} {
		r := w.dial(cfg)
		if code := r.connect("n1"); code != 0 || r.conn.(*tls.Conn).ConnectionState().DidResume != resumed {
			t.Fatalf("connection %d: CONNACK %d, resumed %v; wanted 0, %v", i, code, !resumed, resumed)
		}
	}
	w.deny("n1", errors.New("removed"))
	r := w.dial(cfg)
	if code := r.connect("n1"); code != 5 || !r.conn.(*tls.Conn).ConnectionState().DidResume {
		t.Errorf("CONNACK %d of a denied node with a ticket; wanted 5", code)
	}
}
