package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/url"
	"strings"
	"sync"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/cluster/registry"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/mqtt/broker"
)

// buildWire makes the transport that the configuration asks for.
func (a *Agent) buildWire(context.Context) error {
	if a.cfg.MQTT.External != "" {
		return a.buildExternal()
	}
	b, err := broker.New(broker.Config{
		Addr: a.cfg.MQTT.Listen, TLS: a.enroll.BrokerTLS(a.listener), Topics: a.topics, Authorize: a.enroll.Authorize, Handle: a.receive,
		OnConnect: a.onConnect, OnDisconnect: a.onDisconnect, OnRefused: a.onRefused, Log: a.log, Now: a.clock.Now,
		Limits: broker.Limits{Connections: a.cfg.MQTT.MaxConnections, AcceptPerSecond: a.cfg.MQTT.AcceptPerSecond,
			MessagesPerSecond: a.cfg.MQTT.MessagesPerSecond},
	})
	if err != nil {
		return err
	}
	a.wire = &embedded{Broker: b, agent: a}
	return nil
}

// embedded is the broker in this process.
type embedded struct {
	*broker.Broker
	agent *Agent
}

// Run serves, and gives nodes the broker's address as soon as it is known.
func (e *embedded) Run(ctx context.Context) error {
	ended, end := context.WithCancel(ctx)
	var told sync.WaitGroup
	told.Go(func() {
		select {
		case <-e.Ready():
			e.agent.setBroker(true)
		case <-ended.Done():
		}
	})
	err := e.Broker.Run(ctx)
	end()
	told.Wait() // whatever it said, the last word is that the broker is gone
	e.agent.setBroker(false)
	return err
}

// Kick ends the sessions of a client.
func (e *embedded) Kick(commonName string) { e.Broker.Kick(commonName) }

// Port is where the broker listens.
func (e *embedded) Port() string {
	_, port, err := net.SplitHostPort(e.Addr().String())
	if err != nil {
		return ""
	}
	return port
}

// setBroker tells whether we are in touch with the broker: time in which we are not does not count against nodes.
func (a *Agent) setBroker(up bool) {
	a.brokerUp.Store(up)
	a.registry.OnBroker(up)
}

// link tells the registry of a connection. One of a node that was just removed is nobody's.
func (a *Agent) link(node string, up bool, why string) {
	if err := a.registry.OnLink(node, up, why); err != nil && !errors.Is(err, registry.ErrUnknown) {
		a.log.Warn("connection not noted", agent.KeyNode, node, agent.KeyErr, err)
	}
}

func (a *Agent) onConnect(id mqtt.Identity) {
	if id.Kind == mqtt.NodeIdentity {
		a.link(id.Name, true, "")
	}
}

func (a *Agent) onDisconnect(id mqtt.Identity, reason error) {
	if id.Kind != mqtt.NodeIdentity {
		return
	}
	if errors.Is(reason, broker.ErrStopping) {
		return // it is us who leave
	}
	why := "connection closed"
	if reason != nil {
		why = "connection lost: " + reason.Error()
	}
	a.link(id.Name, false, why)
	if a.registry.Connected(id.Name) {
		return // a newer session has taken this one's place
	}
	if n, ok := a.registry.Get(id.Name); ok {
		a.journal.OnNodeDown(id.Name, n.Epoch)
	}
	a.streams.closeNode(id.Name, fmt.Errorf("node %s is gone: %s", id.Name, why))
}

// external is a broker elsewhere: we are a client like the nodes, with more rights.
type external struct {
	*mqtt.Link
	agent *Agent
	up    chan struct{}
	port  string
}

// shards is how many messages of an external broker are handled at once, those of one node in order.
const shards = 32

func (a *Agent) buildExternal() error {
	u, err := url.Parse(a.cfg.MQTT.External)
	if err != nil {
		return fmt.Errorf("mqtt.external: %w", err)
	}
	ext := &external{agent: a, up: make(chan struct{}), port: u.Port()}
	cfg := mqtt.LinkConfig{Servers: []string{a.cfg.MQTT.External}, ClientID: "cluster:" + a.cfg.Cluster,
		TLS: a.externalTLS, Queue: 4096, Window: 256, Shards: shards, Shard: shardOf, Log: a.log,
		Announce: func(context.Context, *mqtt.Session) error {
			a.setBroker(true)
			return nil
		},
		OnDown: func(error) { a.setBroker(false) }}
	if a.cfg.Replica.Name != "" {
		a.share = newShare(a)
		a.share.join(&cfg)
	} else {
		for _, kind := range a.inbound() {
			cfg.Subscriptions = append(cfg.Subscriptions, mqtt.Subscription{Filter: a.topics.Filter(kind, "+"), Handler: a.receiveForeign})
		}
	}
	ext.Link, err = mqtt.NewLink(cfg)
	a.wire = ext
	return err
}

// inbound lists what nodes and operators send.
func (a *Agent) inbound() (kinds []mqtt.Kind) {
	for _, e := range mqtt.Contract() {
		if e.Dir == mqtt.Up || e.Dir == mqtt.Ask {
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

func (a *Agent) externalTLS(string) (*tls.Config, error) {
	cert, err := a.enroll.ClusterCertificate()
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: a.authority.Pool(), Certificates: []tls.Certificate{*cert},
		VerifyConnection: func(c tls.ConnectionState) error { // after the chain was verified
			a.brokerEnds.Store(c.PeerCertificates[0].NotAfter.Unix())
			return nil
		}}, nil
}

// shardOf keeps the messages of a node in order: the node is the third level from the root's end.
func shardOf(topic string) uint32 {
	h := fnv.New32a()
	levels := strings.SplitN(topic, "/", 5)
	_, _ = h.Write([]byte(strings.Join(levels[:min(4, len(levels))], "/"))) // never fails
	return h.Sum32()
}

// Ready is closed at once: a broker that is away is waited for, but everything else works meanwhile.
func (e *external) Ready() <-chan struct{} {
	ready := make(chan struct{})
	close(ready)
	return ready
}

// Kick cannot reach into another broker; its CRL is `skerry-cluster broker-config`.
func (e *external) Kick(commonName string) {
	e.agent.log.Warn("revoked client may stay connected to the external broker until its CRL is renewed", agent.KeyNode, commonName)
}

// Port is where nodes connect.
func (e *external) Port() string { return e.port }

// receiveForeign takes a message of an external broker, which tells nothing of who published it but the topic: its
// access list is what keeps nodes and operators to theirs.
func (a *Agent) receiveForeign(ctx context.Context, m mqtt.Inbound) error {
	topic, err := a.topics.Parse(m.Topic)
	if err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	from := mqtt.Identity{Kind: mqtt.NodeIdentity, Name: topic.Node, Cluster: a.cfg.Cluster}
	if topic.Kind == mqtt.KindRequest {
		from = mqtt.Identity{Kind: mqtt.OperatorIdentity, Name: "external-broker", Role: "operator", Cluster: a.cfg.Cluster}
	}
	return a.receive(ctx, broker.Inbound{Topic: topic, Raw: m.Topic, Payload: m.Payload, Retained: m.Retained, From: from})
}
