package mqtt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// handOver bounds how long the library may hold a publish that it cannot pass to its writer. It does not notice the end
// of the connection while it waits, so it waits briefly and is asked again.
const handOver = time.Second

// joinWithin bounds the wait for the library's goroutines after their socket is closed.
const joinWithin = 10 * time.Second

// RefusedError is a CONNACK that refuses the connection [MQTT-3.2.2-4].
type RefusedError struct{ Code byte }

// Error tells what the code means and who can cure it.
func (e *RefusedError) Error() string {
	text := "unknown return code"
	switch e.Code {
	case packets.ErrRefusedBadProtocolVersion:
		text = "unacceptable protocol version; wanted a broker that speaks MQTT 3.1.1"
	case packets.ErrRefusedIDRejected:
		text = "client id rejected"
	case packets.ErrRefusedServerUnavailable:
		text = "server unavailable"
	case packets.ErrRefusedBadUsernameOrPassword:
		text = "bad user name or password"
	case packets.ErrRefusedNotAuthorised:
		text = "not authorised; does the broker know this certificate or user?"
	}
	return fmt.Sprintf("broker refused the connection: %s (CONNACK %d)", text, e.Code)
}

// open makes a session: Begin, dial, TLS, CONNECT, CONNACK. Its goroutines run when it returns; nothing is subscribed.
func (l *Link) open(ctx context.Context, srv server) (*Session, error) {
	var will Outbound
	if l.cfg.Begin != nil {
		var err error
		if will, err = l.cfg.Begin(ctx); err != nil {
			return nil, fmt.Errorf("begin session: %w", err)
		}
	}
	s := newSession(ctx, l)
	unwatch := func() bool { return true }
	opts := l.options(will)
	opts.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { s.receive(m) })
	opts.SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) {
		conn, err := l.dial(ctx, srv)
		if err != nil {
			return nil, err
		}
		s.wire = conn
		unwatch = context.AfterFunc(ctx, func() { conn.drop(ctx.Err()) }) // a CONNACK may take ConnectTimeout
		return conn, nil
	})
	opts.SetConnectionLostHandler(func(_ paho.Client, err error) { s.end(err) })
	s.client = paho.NewClient(opts)
	token, _ := s.client.Connect().(*paho.ConnectToken)
	<-token.Done() // each step of it has a deadline, and ctx ends them all
	unwatch()
	if err := token.Error(); err != nil {
		s.cancel(err)
		return nil, connectError(token.ReturnCode(), err)
	}
	return s, nil
}

func (l *Link) options(will Outbound) *paho.ClientOptions {
	c := &l.cfg
	opts := paho.NewClientOptions()
	opts.AddBroker("tcp://broker") // one, so that it tries one; the dialler knows the real address
	opts.SetProtocolVersion(4)     // 3.1.1, without falling back to 3.1
	opts.SetClientID(c.ClientID).SetUsername(c.Username).SetPassword(c.Password)
	opts.SetCleanSession(true)
	opts.SetStore(noStore{})
	opts.SetAutoReconnect(false).SetConnectRetry(false)
	opts.SetAutoAckDisabled(true) // the handler's return is the acknowledgement
	opts.SetOrderMatters(true)
	opts.SetKeepAlive(c.KeepAlive)
	opts.SetPingTimeout(c.KeepAlive) // wire is quicker, and also sees a stalled write
	opts.SetConnectTimeout(c.ConnectTimeout)
	opts.SetWriteTimeout(handOver)
	if will.Topic != "" {
		opts.SetBinaryWill(will.Topic, will.Payload, QoS, will.Retain)
	}
	return opts
}

// connectError tells a refusal from a network fault.
func connectError(code byte, err error) error {
	if code != packets.Accepted && code < packets.ErrNetworkError {
		return &RefusedError{Code: code}
	}
	var joined interface{ Unwrap() []error } // the library joins "network Error" and the cause
	if errors.As(err, &joined) {
		for _, e := range joined.Unwrap() {
			if e != nil && !errors.Is(e, packets.ErrorNetworkError) {
				return e
			}
		}
	}
	return err
}

// subscribe sends one SUBSCRIBE with all filters and waits for the SUBACK.
func (s *Session) subscribe(ctx context.Context, within time.Duration) error {
	filters := make(map[string]byte)
	for _, sub := range s.link.cfg.Subscriptions {
		filters[sub.Filter] = QoS
	}
	token, ok := s.client.SubscribeMultiple(filters, nil).(*paho.SubscribeToken)
	if !ok {
		return errors.New("subscribe: the library returned a foreign token")
	}
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-token.Done():
	case <-ctx.Done():
		return s.because(ctx.Err())
	case <-late.C:
		return fmt.Errorf("subscribe: no SUBACK within %s", within)
	}
	if err := token.Error(); err != nil {
		return s.because(fmt.Errorf("subscribe: %w", err))
	}
	for filter, granted := range token.Result() {
		if granted != QoS { // 0x80 is a refusal [MQTT-3.9.3-2]; less than we need is one too
			return fmt.Errorf("subscribe %s: broker answered %#x; wanted QoS %d granted", filter, granted, QoS)
		}
	}
	return nil
}

// disconnect sends DISCONNECT and waits briefly for it to leave.
func (s *Session) disconnect() {
	const within = 500 * time.Millisecond
	s.client.Disconnect(uint(within / time.Millisecond))
}

// join waits for the library's goroutines. The wire has to be dropped before; without a connection a second Disconnect
// only waits for the end of the first, or of the loss.
func (s *Session) join() {
	s.client.Disconnect(uint(joinWithin / time.Millisecond))
}

// noStore is a store that keeps nothing: what must not be lost is kept by whoever publishes it, until it is
// acknowledged end to end. The library's store would send again what its owner has long given up.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}
