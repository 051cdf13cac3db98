package fault

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// subscribe connects as an operator of its own, subscribes to all telemetry, and reads no more.
func (r *Rig) subscribe(ctx context.Context) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	name := "slow-" + api.NewID()
	secure, err := r.certify(ctx, name)
	if err != nil {
		return nil, err
	}
	_, cluster := addrOf(tierCluster)
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", cluster.String()+":"+mqttPort)
	if err != nil {
		return nil, err
	}
	if err := raw.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	conn := tls.Client(raw, secure)
	if err := r.hello(ctx, conn, "operator:"+name); err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe: %w", err), raw.Close())
	}
	return conn, nil
}

func (r *Rig) hello(ctx context.Context, conn *tls.Conn, client string) error {
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
	connect := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	connect.ProtocolName, connect.ProtocolVersion, connect.CleanSession, connect.ClientIdentifier, connect.Keepalive = "MQTT", 4, true, client, 600
	subscribe := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	subscribe.MessageID, subscribe.Topics, subscribe.Qoss = 1, []string{topics.Filter(mqtt.KindTele, "+")}, []byte{1}
	for _, p := range []packets.ControlPacket{connect, subscribe} {
		if err := write(conn, p); err != nil {
			return err
		}
		if _, err := packets.ReadPacket(conn); err != nil {
			return err
		}
	}
	return conn.SetDeadline(time.Time{})
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

// unread is how many bytes wait in the socket: tcp(7), SIOCINQ.
func unread(conn *tls.Conn) (n int, err error) {
	raw, err := conn.NetConn().(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n, errors.Join(cerr, err)
}
