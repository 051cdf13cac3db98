package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/skerry-edge/skerry/mqtt"
)

// ErrDiscard is what Handle wraps to say that a message can never be handled: it is acknowledged, counted and not
// passed on, because refusing it would bring it back for ever.
var ErrDiscard = mqtt.ErrDiscard

// Inbound is a message from a client. Payload may be kept, but not changed. Will is set for a last will: it is not
// acknowledged, and an error only keeps it from being published and retained.
type Inbound struct {
	Topic    mqtt.Topic
	Raw      string // the topic as it was sent; it shares the memory of Payload, as the names in Topic do not
	Payload  []byte
	Retained bool
	Will     bool
	From     mqtt.Identity
}

// Refusal is a publish that was not permitted.
type Refusal struct {
	From  mqtt.Identity
	Addr  string // of the client, host:port
	Topic string // as it was sent: of any length and content
	Why   error
}

// Config says where a broker listens, whom it admits, and to whom it hands what arrives.
type Config struct {
	Addr string // host:port; port 0 takes any
	// TLS holds the server's certificate and the client CAs, or a GetConfigForClient that does. TLS 1.3, client
	// certificates are enforced here. A session ticket saves the signatures of a handshake, and Authorize is asked about
	// the certificate in it as about any other.
	TLS    *tls.Config
	Topics mqtt.Topics
	// Authorize turns a verified certificate into an identity, or says why not: removed, revoked, of an old key. It is
	// called concurrently, once per connection. Whoever revokes calls Kick after Authorize would refuse.
	Authorize func(cert *x509.Certificate) (mqtt.Identity, error)
	// Handle takes each message that goes up or asks, before it is acknowledged; nil means stored. An error means no
	// PUBACK [MQTT-4.3.2-2], no fan-out, and the end of the connection, so that the sender sends it again. It is called
	// concurrently, in order and one at a time per client id; ctx ends when a stopping broker has no more time.
	Handle func(ctx context.Context, m Inbound) error
	// OnConnect and OnDisconnect tell of sessions, each session once, before its first and after its last message; a
	// session that is taken over ends before the next one begins. reason is nil after a clean DISCONNECT. They run on
	// the connection's goroutine. Optional.
	OnConnect    func(id mqtt.Identity)
	OnDisconnect func(id mqtt.Identity, reason error)
	// OnRefused tells of a publish that somebody with a good certificate may not make: of a topic that is not theirs, or
	// retained where nothing is, or as a last will. It runs on the connection's goroutine, as often as clients like. Optional.
	OnRefused func(r Refusal)
	Limits    Limits
	Log       *slog.Logger
	Now       func() time.Time // nil: time.Now; a session ends when its certificate does by this clock
}

// Limits bound what clients can do to the broker. Zero fields take the defaults.
type Limits struct {
	Connections       int           // 20,000, those in the handshake included; one more is closed at once
	ConnectionsEach   int           // 32 of one operator; a node has 4, of which one has the session
	AcceptPerSecond   int           // 200, with a burst of as many
	AcceptPatience    time.Duration // 5 s; a connection that would wait longer for its turn, or then for its handshake, is closed
	Handshakes        int           // 64 computed at once; the wait for clients does not count
	HandshakeTimeout  time.Duration // 10 s for TLS, and as much for CONNECT
	MessagesPerSecond int           // 200 from one client, with a burst of as many; beyond it reading pauses
	MaxPacketBytes    int           // mqtt.MaxPacketBytes; a larger one ends the connection
	Subscriptions     int           // 64 filters of one client
	WritesPending     int           // 128 messages to one client; one more is dropped and counted
	Window            int           // 256 messages to one client without its PUBACK, or less if it says so [MQTT-3.3.4-9]
	WriteTimeout      time.Duration // 20 s; a client that takes nothing for so long is disconnected
	BufferBytes       int           // 4096 for reading, of each client that is sending right now
}

func (l *Limits) defaults() {
	for _, d := range []struct {
		v   *int
		def int
	}{{&l.Connections, 20000}, {&l.ConnectionsEach, 32}, {&l.AcceptPerSecond, 200}, {&l.Handshakes, 64},
		{&l.MessagesPerSecond, 200}, {&l.MaxPacketBytes, mqtt.MaxPacketBytes}, {&l.Subscriptions, 64},
		{&l.WritesPending, 128}, {&l.Window, 256}, {&l.BufferBytes, 4096}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&l.AcceptPatience, 5 * time.Second}, {&l.HandshakeTimeout, 10 * time.Second}, {&l.WriteTimeout, 20 * time.Second}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
}

func (l *Limits) validate() error {
	for name, v := range map[string]int{"connections": l.Connections, "connections of one": l.ConnectionsEach,
		"accepts per second": l.AcceptPerSecond, "handshakes": l.Handshakes, "messages per second": l.MessagesPerSecond,
		"packet bytes": l.MaxPacketBytes, "subscriptions": l.Subscriptions, "writes pending": l.WritesPending,
		"window": l.Window, "buffer bytes": l.BufferBytes} {
		if v < 0 {
			return fmt.Errorf("limit of %s is %d; wanted one above 0", name, v)
		}
	}
	if l.AcceptPatience < 0 || l.HandshakeTimeout < 0 || l.WriteTimeout < 0 {
		return fmt.Errorf("patience %s, handshake timeout %s, write timeout %s: wanted all above 0",
			l.AcceptPatience, l.HandshakeTimeout, l.WriteTimeout)
	}
	if l.BufferBytes < maxHeader {
		return fmt.Errorf("buffer of %d bytes: wanted at least %d", l.BufferBytes, maxHeader)
	}
	if l.Window+l.WritesPending > maxInflight {
		return fmt.Errorf("window %d and writes pending %d: wanted at most %d together", l.Window, l.WritesPending, maxInflight)
	}
	return nil
}

// maxInflight is half of the packet ids that MQTT has.
const maxInflight = 1 << 15

// New checks cfg, all faults at once, and opens nothing.
func New(cfg Config) (*Broker, error) {
	cfg.Limits.defaults()
	errs := []error{cfg.Limits.validate()}
	if cfg.Authorize == nil || cfg.Handle == nil || cfg.Log == nil {
		errs = append(errs, errors.New("wanted Authorize, Handle and Log"))
	}
	if t, err := mqtt.NewTopics(cfg.Topics.Root, cfg.Topics.Cluster); err != nil {
		errs = append(errs, err)
	} else if t != cfg.Topics {
		errs = append(errs, errors.New("topics have no root; wanted those of mqtt.NewTopics"))
	}
	if _, _, err := net.SplitHostPort(cfg.Addr); err != nil {
		errs = append(errs, fmt.Errorf("address %q: wanted host:port: %w", cfg.Addr, err))
	}
	switch {
	case cfg.TLS == nil:
		errs = append(errs, errors.New("no TLS configuration: nobody is admitted without a certificate"))
	case cfg.TLS.GetConfigForClient != nil:
	case cfg.TLS.ClientCAs == nil:
		errs = append(errs, errors.New("TLS has no client CAs: the system's would be trusted"))
	case len(cfg.TLS.Certificates) == 0 && cfg.TLS.GetCertificate == nil:
		errs = append(errs, errors.New("TLS has no server certificate"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	b := &Broker{cfg: cfg, ready: make(chan struct{}), all: map[*peer]struct{}{}, each: map[string]int{}, sessions: map[string]*peer{}}
	for _, e := range mqtt.Contract() {
		b.contract[e.Kind] = e
	}
	b.lines = newLines(cfg.Log)
	return b, nil
}
