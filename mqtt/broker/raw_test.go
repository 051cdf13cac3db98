package broker_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// raw speaks MQTT packet by packet, for what a well-behaved library would never send.
type raw struct {
	t       testing.TB
	conn    net.Conn
	version byte
}

func (w *world) dial(cfg *tls.Config) *raw {
	w.t.Helper()
	conn, err := tls.Dial("tcp", w.Addr().String(), cfg)
	if err != nil {
		w.t.Fatalf("dial: %v", err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return &raw{t: w.t, conn: conn, version: 4}
}

// connect sends CONNECT and returns the code of the CONNACK; tweak may change the packet.
func (r *raw) connect(clientID string, tweak ...func(*packets.Packet)) byte {
	r.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: r.version,
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: true, Keepalive: 3600, ClientIdentifier: clientID}}
	for _, f := range tweak {
		f(&pk)
	}
	r.write(pk)
	ack, err := r.read(patience)
	if err != nil {
		r.t.Fatalf("wait for CONNACK: %v", err)
	}
	if ack.FixedHeader.Type != packets.Connack {
		r.t.Fatalf("got packet type %d; wanted CONNACK", ack.FixedHeader.Type)
	}
	return ack.ReasonCode
}

func (r *raw) publish(id uint16, topic, payload string, retain bool) {
	r.t.Helper()
	r.write(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: retain}, ProtocolVersion: r.version,
		PacketID: id, TopicName: topic, Payload: []byte(payload)})
}

func (r *raw) write(pks ...packets.Packet) {
	r.t.Helper()
	var buf bytes.Buffer
	for _, pk := range pks {
		if err := encode(&buf, pk); err != nil {
			r.t.Fatal(err)
		}
	}
	if _, err := r.conn.Write(buf.Bytes()); err != nil {
		r.t.Logf("write: %v", err) // the broker may have closed; what follows will say
	}
}

func encode(buf *bytes.Buffer, pk packets.Packet) error {
	switch pk.FixedHeader.Type {
	case packets.Connect:
		return pk.ConnectEncode(buf)
	case packets.Publish:
		return pk.PublishEncode(buf)
	case packets.Subscribe:
		return pk.SubscribeEncode(buf)
	case packets.Puback:
		return pk.PubackEncode(buf)
	}
	return fmt.Errorf("cannot encode packet type %d", pk.FixedHeader.Type)
}

func (r *raw) read(within time.Duration) (packets.Packet, error) {
	if err := r.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return packets.Packet{}, err
	}
	var first [1]byte
	if _, err := io.ReadFull(r.conn, first[:]); err != nil {
		return packets.Packet{}, err
	}
	pk := packets.Packet{ProtocolVersion: r.version}
	if err := pk.FixedHeader.Decode(first[0]); err != nil {
		return pk, err
	}
	n, _, err := packets.DecodeLength(byteReader{r.conn})
	if err != nil {
		return pk, err
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r.conn, body); err != nil {
		return pk, err
	}
	pk.FixedHeader.Remaining = n
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	}
	return pk, err
}

// takeLittle bounds what the kernel takes for a client that does not read.
func (r *raw) takeLittle() {
	r.t.Helper()
	if err := r.conn.(*tls.Conn).NetConn().(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		r.t.Fatal(err)
	}
}

// closed fails the test unless the broker closes the connection without another packet.
func (r *raw) closed() {
	r.t.Helper()
	pk, err := r.read(patience)
	if err == nil {
		r.t.Fatalf("got packet type %d; wanted the end of the connection", pk.FixedHeader.Type)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Fatal("connection is still open")
	}
}

// silent fails the test if the broker sends anything, or closes, within d.
func (r *raw) silent(d time.Duration) {
	r.t.Helper()
	pk, err := r.read(d)
	if err == nil {
		r.t.Fatalf("got packet type %d; wanted silence", pk.FixedHeader.Type)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Fatalf("connection ended: %v; wanted silence", err)
	}
}

type byteReader struct{ r io.Reader }

func (b byteReader) ReadByte() (byte, error) {
	var c [1]byte
	_, err := io.ReadFull(b.r, c[:])
	return c[0], err
}
