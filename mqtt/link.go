package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// ErrDown is wrapped by every publish that failed because there is no session, or because the session ended before the
// broker acknowledged it. Whether the broker has the message is unknown in the second case.
var ErrDown = errors.New("link is down")

// ErrDiscard is what a Handler wraps to say that a message can never be handled, such as one that does not decode: it
// is acknowledged, counted and logged, because refusing it would bring it back for ever.
var ErrDiscard = errors.New("message discarded")

// Inbound is a message that arrived. Payload belongs to the handler.
type Inbound struct {
	Topic     string
	Payload   []byte
	Retained  bool // it was stored before the subscription was made [MQTT-3.3.1-8]
	Duplicate bool // the broker may have delivered it before [MQTT-3.3.1-1]
}

// Outbound is a message to publish.
type Outbound struct {
	Topic   string
	Payload []byte
	Retain  bool
}

// Handler takes one message. nil acknowledges it to the broker. An error that wraps ErrDiscard acknowledges it too. Any
// other error does not: the connection is dropped, so that what was refused is sent again or resynchronised on the next
// one. ctx ends with the session; a handler that ignores it holds up the reconnect.
type Handler func(ctx context.Context, m Inbound) error

// Subscription routes what matches Filter to Handler. A message that matches several goes to the first in the list.
type Subscription struct {
	Filter  string
	Handler Handler
}

// LinkConfig says whom a link connects to, as whom, and what it does there.
type LinkConfig struct {
	// Servers are mqtts://, ssl:// or tls:// (port 8883) and tcp:// or mqtt:// (port 1883) URLs, tried in order. The
	// link moves on to the next when one fails or does not hold for StableAfter.
	Servers  []string
	ClientID string
	Username string // empty: none
	Password string
	// TLS is asked before every connect, with the server's host without its port, so that renewed certificates are used
	// without a restart. Required by the schemes with TLS. ServerName and ALPN "mqtt" are filled in where it leaves
	// them out.
	TLS func(host string) (*tls.Config, error)

	KeepAlive      time.Duration // 0: 60 s; whole seconds; a side that was silent this long gives a sign of life
	Patience       time.Duration // 0: 1.5 times KeepAlive, at least 10 s more than it; silence of this is a lost link
	ConnectTimeout time.Duration // 0: 30 s; from dialling to CONNACK, and once more to SUBACK
	AckTimeout     time.Duration // 0: 60 s; a PUBACK later than this drops the link
	StableAfter    time.Duration // 0: 60 s; only a link that held this long resets the backoff
	BackoffMin     time.Duration // 0: 1 s
	BackoffMax     time.Duration // 0: 5 min

	Subscriptions []Subscription
	// Later routes what Session.Subscribe asks for in the course of a session. Optional.
	Later []Subscription
	// Begin opens a session before each connect, with an epoch of its own, and returns the will of that epoch.
	// Optional; an empty topic is no will.
	Begin func(ctx context.Context) (Outbound, error)
	// Announce is called on every connect after the broker granted all subscriptions, and may publish (birth, state)
	// through the session before anybody else can. An error drops the connection. Optional.
	Announce func(ctx context.Context, s *Session) error
	// Goodbye is published before the clean DISCONNECT on stop, when it says so. If the broker does not acknowledge it
	// within 2 s the connection is torn instead, so that the will speaks. Optional.
	Goodbye func() (Outbound, bool)
	// OnUp is called from Run's goroutine when a session is up, so that Publish works: what waits to be sent may go now. It
	// must not block. Optional.
	OnUp func()
	// OnDown is called from Run's goroutine when a session that was up is over, with nil after a clean stop. Optional.
	OnDown func(error)

	Queue int // 0: 256; messages waiting per shard; one more drops the connection, counted
	// QueueBytes bounds the topics and payloads that wait or are handled, over all shards, in the same way; one message alone
	// always passes. 0: by Queue alone.
	QueueBytes int
	Window     int                       // 0: 64; publishes awaiting their PUBACK; one more waits
	Shards     int                       // 0: 1; handlers running at once; order is kept within a shard
	Shard      func(topic string) uint32 // which shard; required when Shards is above 1
	// Keep is how many goroutines stay when there is nothing to send, to complete or to handle. 0: none, so that thousands of
	// idle links are cheap. A process of one link has less memory mapped with 3 (agent.Crew says why).
	Keep int

	Log *slog.Logger // nil: discarded
	// Dial replaces the TCP dialler. nil: net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Link keeps one MQTT connection for as long as Run runs. All other methods are safe for concurrent use.
type Link struct {
	cfg     LinkConfig
	servers []server
	backoff agent.Backoff // Run's alone
	away    int           // Run's alone: how often in a row the broker was crowded
	crowd   atomic.Int64  // nanoseconds: SetCrowd
	tickets tickets       // Run's alone
	running atomic.Bool
	count   counters

	mu      sync.Mutex
	session *Session      // while up
	up      chan struct{} // closed while up
	state   LinkStatus    // without the counters
}

// server is a parsed entry of LinkConfig.Servers.
type server struct {
	name string // as configured
	host string // without port, for TLS
	addr string
	tls  bool
}

// NewLink checks cfg, all faults at once.
func NewLink(cfg LinkConfig) (*Link, error) {
	l := &Link{cfg: cfg, up: make(chan struct{})}
	errs := []error{l.parseServers()}
	if cfg.ClientID == "" {
		errs = append(errs, errors.New("client id is empty; wanted the node's id"))
	}
	if cfg.Password != "" && cfg.Username == "" {
		errs = append(errs, errors.New("password without a user name; wanted both or none [MQTT-3.1.2-22]"))
	}
	if cfg.KeepAlive < 0 || cfg.KeepAlive%time.Second != 0 || cfg.KeepAlive > 65535*time.Second {
		errs = append(errs, fmt.Errorf("keepalive %s: wanted whole seconds up to 65535", cfg.KeepAlive))
	}
	if cfg.Patience != 0 && cfg.Patience <= cfg.KeepAlive {
		errs = append(errs, fmt.Errorf("patience %s: wanted more than the keepalive, %s", cfg.Patience, cfg.KeepAlive))
	}
	if cfg.Shards > 1 && cfg.Shard == nil {
		errs = append(errs, fmt.Errorf("%d shards without a shard function", cfg.Shards))
	}
	if cfg.Queue < 0 || cfg.QueueBytes < 0 || cfg.Window < 0 || cfg.Shards < 0 || cfg.Keep < 0 || cfg.Window > 1<<15 {
		errs = append(errs, fmt.Errorf("queue %d of %d bytes, window %d, shards %d, keep %d: wanted none below 0, and a window up to %d",
			cfg.Queue, cfg.QueueBytes, cfg.Window, cfg.Shards, cfg.Keep, 1<<15))
	}
	for i, s := range slices.Concat(cfg.Subscriptions, cfg.Later) {
		if s.Filter == "" || s.Handler == nil {
			errs = append(errs, fmt.Errorf("subscriptions[%d] %q: wanted a filter and a handler", i, s.Filter))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	l.defaults()
	l.backoff = agent.Backoff{Min: l.cfg.BackoffMin, Max: l.cfg.BackoffMax}
	return l, nil
}

func (l *Link) defaults() {
	c := &l.cfg
	orDuration := func(d *time.Duration, otherwise time.Duration) {
		if *d <= 0 {
			*d = otherwise
		}
	}
	orInt := func(n *int, otherwise int) {
		if *n == 0 {
			*n = otherwise
		}
	}
	orDuration(&c.KeepAlive, 60*time.Second)
	orDuration(&c.Patience, max(c.KeepAlive+c.KeepAlive/2, c.KeepAlive+10*time.Second)) // a modem that sleeps takes seconds to answer
	orDuration(&c.ConnectTimeout, 30*time.Second)
	orDuration(&c.AckTimeout, 60*time.Second)
	orDuration(&c.StableAfter, 60*time.Second)
	orInt(&c.Queue, 256)
	orInt(&c.Window, 64)
	orInt(&c.Shards, 1)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
}

func (l *Link) parseServers() error {
	if len(l.cfg.Servers) == 0 {
		return errors.New("no servers; wanted at least one URL such as mqtts://host:8883")
	}
	var errs []error
	for _, text := range l.cfg.Servers {
		s, err := parseServer(text)
		if err == nil && s.tls && l.cfg.TLS == nil {
			err = fmt.Errorf("server %q: its scheme wants a TLS configuration", text)
		}
		errs = append(errs, err)
		l.servers = append(l.servers, s)
	}
	return errors.Join(errs...)
}

func parseServer(text string) (server, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return server{}, fmt.Errorf("server %q: wanted scheme://host:port", redact(u, text))
	}
	s := server{name: text, host: u.Hostname()}
	port := "1883"
	switch u.Scheme {
	case "mqtts", "ssl", "tls":
		s.tls, port = true, "8883"
	case "tcp", "mqtt":
	default:
		return server{}, fmt.Errorf("server %q: scheme %q; wanted mqtts, ssl, tls, tcp or mqtt", text, u.Scheme)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	s.addr = net.JoinHostPort(s.host, port)
	return s, nil
}

// redact keeps a password that somebody put into a URL out of the error.
func redact(u *url.URL, text string) string {
	if u != nil && u.User != nil {
		return u.Redacted()
	}
	return text
}
