package fault

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// consumer is a subscriber to all telemetry that reads nothing.
type consumer struct {
	name       string
	qos        byte
	unacked    uint16 // messages that it takes without acknowledging one: its Receive Maximum [MQTT-3.1.2-11]
	socketSize int    // of its receive buffer
}

// slowOnes meet both ways in which the broker waits for a client: for its acknowledgements, and for its socket. What a buffer of
// a usual size and a window of 256 messages hold is more than this site sends while a fault lasts, and no limit would be reached.
func slowOnes() []consumer {
	return []consumer{{name: "unacked", qos: 1, unacked: 1, socketSize: 64 << 10}, {name: "deaf", qos: 0, unacked: 64, socketSize: 2 << 10}}
}

// subscribe connects as an operator of its own, subscribes, and reads no more.
func (r *Rig) subscribe(ctx context.Context, c consumer) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	name := c.name + "-" + api.NewID()
	secure, err := r.certify(ctx, name)
	if err != nil {
		return nil, err
	}
	_, cluster := addrOf(tierCluster)
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error { // before the handshake, which tells the window
		var set error
		err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, c.socketSize) })
		return errors.Join(err, set)
	}}
	raw, err := dialer.DialContext(ctx, "tcp", cluster.String()+":"+mqttPort)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, secure)
	if err := r.hello(ctx, conn, "operator:"+name, c); err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe: %w", err), raw.Close())
	}
	return conn, nil
}

func (r *Rig) hello(ctx context.Context, conn *tls.Conn, client string, c consumer) error {
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return err
		}
	}
	topics, err := mqtt.NewTopics(r.site.Status.Root, r.site.Status.Cluster)
	if err != nil {
		return err
	}
	for _, p := range [][]byte{connectPacket(client, c.unacked), subscribePacket(topics.Filter(mqtt.KindTele, "+"), c.qos)} {
		if _, err := conn.Write(p); err != nil {
			return err
		}
		if _, err := packets.ReadPacket(conn); err != nil {
			return err
		}
	}
	return conn.SetDeadline(time.Time{})
}

// connectPacket is one of MQTT 5 (3.1): only there can a client say how many messages it takes unacknowledged.
func connectPacket(client string, receiveMaximum uint16) []byte {
	const level, cleanStart, keepAlive, receiveMaximumID = 5, 2, 600, 0x21
	body := append(mqttString("MQTT"), level, cleanStart)
	body = binary.BigEndian.AppendUint16(body, keepAlive)
	body = append(body, 3, receiveMaximumID) // length of the properties
	body = binary.BigEndian.AppendUint16(body, receiveMaximum)
	return mqttPacket(0x10, append(body, mqttString(client)...))
}

// subscribePacket is one of MQTT 5 (3.8) without properties.
func subscribePacket(filter string, qos byte) []byte {
	return mqttPacket(0x82, append(append([]byte{0, 1, 0}, mqttString(filter)...), qos))
}

func mqttString(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

func mqttPacket(first byte, body []byte) []byte {
	return append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...) // a varint of MQTT is one of Go's
}

// certify makes an operator's certificate, as `skerry operator create` does.
func (r *Rig) certify(ctx context.Context, name string) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	var op api.Operator
	if err := r.site.Client.Post(ctx, "/v1/operators", api.OperatorRequest{Name: name, Role: api.RoleOperator, TTL: "24h", CSR: csr}, &op); err != nil {
		return nil, err
	}
	cert := tls.Certificate{PrivateKey: key}
	for block, rest := pem.Decode([]byte(op.PEM)); block != nil; block, rest = pem.Decode(rest) {
		cert.Certificate = append(cert.Certificate, block.Bytes)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(op.CA)) {
		return nil, errors.New("the certificate came without a CA")
	}
	_, cluster := addrOf(tierCluster)
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, Certificates: []tls.Certificate{cert}, ServerName: cluster.String(),
		NextProtos: []string{"mqtt"}}, nil
}

// turnedAway is what the broker did about clients that do not keep up, by its own counters.
type turnedAway struct{ dropped, stalled float64 }

func (r *Rig) turnedAway(ctx context.Context) (t turnedAway, err error) {
	all, err := r.metrics(ctx)
	if err != nil {
		return t, err
	}
	const dropped = "skerry_cluster_broker_dropped_total"
	if _, there := all[dropped]; !there {
		return t, fmt.Errorf("it has no metric %s", dropped)
	}
	return turnedAway{all[dropped], all[`skerry_cluster_broker_refused_total{reason="stalled"}`]}, nil
}

// from is what came since then; counters that fell began anew.
func (t turnedAway) from(then turnedAway) turnedAway {
	if t.dropped < then.dropped || t.stalled < then.stalled {
		return t
	}
	return turnedAway{t.dropped - then.dropped, t.stalled - then.stalled}
}
