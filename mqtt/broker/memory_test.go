package broker_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/mqtt/broker"
)

const (
	crowdEnv  = "SKERRY_TEST_CROWD"  // address of the broker; PEM of CA, certificate and key pairs comes on stdin
	listenEnv = "SKERRY_TEST_LISTEN" // not empty: each subscribes as a node does
)

// TestMain lets the test binary be the crowd of clients too, so that their memory is not counted.
func TestMain(m *testing.M) {
	if addr := os.Getenv(crowdEnv); addr != "" {
		if err := crowd(addr); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// crowd connects one client per certificate, says so, and leaves when stdin ends.
func crowd(addr string) error {
	in := bufio.NewReader(os.Stdin)
	roots := x509.NewCertPool()
	var held []*tls.Conn
	var cert []byte
	var text bytes.Buffer
	for {
		line, err := in.ReadString('\n')
		if line == "done\n" || err != nil {
			break
		}
		text.WriteString(line)
		block, _ := pem.Decode(text.Bytes())
		if block == nil {
			continue
		}
		switch block.Type {
		case "CA":
			ca, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return err
			}
			roots.AddCert(ca)
		case "CERTIFICATE":
			cert = block.Bytes
		default:
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return err
			}
			conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, ServerName: "localhost",
				Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}})
			if err != nil {
				return err
			}
			held = append(held, conn)
			if err := hello(conn, "n"+strconv.Itoa(len(held)-1)); err != nil {
				return err
			}
		}
		text.Reset()
	}
	fmt.Println("connected", len(held))
	_, _ = in.ReadString('\n')
	for _, c := range held {
		_ = c.Close()
	}
	return nil
}

func hello(conn *tls.Conn, id string) error {
	r := &raw{conn: conn, version: 4}
	var buf bytes.Buffer
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4,
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: true, Keepalive: 600, ClientIdentifier: id}}
	if err := pk.ConnectEncode(&buf); err != nil {
		return err
	}
	topics, err := mqtt.NewTopics("", "c1")
	if err != nil {
		return err
	}
	sub := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1, Filters: packets.Subscriptions{
		{Filter: topics.Filter(mqtt.KindCmd, id), Qos: 1}, {Filter: topics.Of(mqtt.KindDesired, id, ""), Qos: 1},
		{Filter: topics.Of(mqtt.KindAck, id, ""), Qos: 1}, {Filter: topics.Filter(mqtt.KindStreamDown, id), Qos: 1}}}
	answers := []byte{packets.Connack}
	if os.Getenv(listenEnv) != "" {
		if err := sub.SubscribeEncode(&buf); err != nil {
			return err
		}
		answers = append(answers, packets.Suback)
	}
	if _, err := conn.Write(buf.Bytes()); err != nil {
		return err
	}
	for _, want := range answers {
		got, err := r.read(patience)
		if err != nil || got.FixedHeader.Type != want || got.ReasonCode != 0 {
			return fmt.Errorf("client %s: got packet %d, code %d, %v", id, got.FixedHeader.Type, got.ReasonCode, err)
		}
	}
	return nil
}

// BenchmarkIdleConnection reports what the broker's process holds for each idle node: a mutual TLS connection, without
// and with the four subscriptions of a node. heap is what is live, stack that of its goroutines, rss what the kernel says of all.
func BenchmarkIdleConnection(b *testing.B) {
	b.Run("bare", func(b *testing.B) { benchmarkIdle(b, "") })
	b.Run("subscribed", func(b *testing.B) { benchmarkIdle(b, "yes") })
}

func benchmarkIdle(b *testing.B, subscribe string) {
	const clients = 500
	for b.Loop() {
		w := newWorld(b, func(c *broker.Config) { c.Limits.AcceptPerSecond = 10_000 })
		before := footprint(b)
		var in bytes.Buffer
		encode := func(kind string, der []byte) {
			if err := pem.Encode(&in, &pem.Block{Type: kind, Bytes: der}); err != nil {
				b.Fatal(err)
			}
		}
		encode("CA", w.ca.cert.Raw)
		for i := range clients {
			cert := w.ca.client(b, node("n"+strconv.Itoa(i)))
			key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
			if err != nil {
				b.Fatal(err)
			}
			encode("CERTIFICATE", cert.Certificate[0])
			encode("KEY", key)
		}
		in.WriteString("done\n")
		cmd := exec.CommandContext(b.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), crowdEnv+"="+w.Addr().String(), listenEnv+"="+subscribe)
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		if _, err := stdin.Write(in.Bytes()); err != nil {
			b.Fatal(err)
		}
		in = bytes.Buffer{}
		if line, err := bufio.NewReader(stdout).ReadString('\n'); line != fmt.Sprintf("connected %d\n", clients) {
			b.Fatalf("crowd says %q, %v\nlog: %s", line, err, w.log)
		}
		after := footprint(b)
		b.ReportMetric(float64(after.heap-before.heap)/clients, "heap-B/conn")
		b.ReportMetric(float64(after.stack-before.stack)/clients, "stack-B/conn")
		b.ReportMetric(float64(after.rss-before.rss)/clients, "rss-B/conn")
		if err := stdin.Close(); err != nil {
			b.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
		if err := w.stop(); err != nil {
			b.Fatal(err)
		}
	}
}

type memory struct{ heap, stack, rss int64 }

func footprint(b *testing.B) memory {
	b.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(raw))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return memory{int64(m.HeapAlloc), int64(m.StackInuse), pages * int64(os.Getpagesize())}
}

// BenchmarkIngest reports messages a second through Handle, acknowledged, from a few clients with a window of their own.
func BenchmarkIngest(b *testing.B) {
	const clients, window = 4, 64
	w := newWorld(b, func(c *broker.Config) {
		c.Limits.MessagesPerSecond = 10_000_000
		c.Handle = func(context.Context, broker.Inbound) error { return nil }
	})
	payload := strings.Repeat("x", 200)
	var all []*raw
	for i := range clients {
		name := "n" + strconv.Itoa(i)
		r := w.dial(w.tls(node(name)))
		r.connect(name)
		all = append(all, r)
	}
	b.ResetTimer()
	done := make(chan error, clients)
	for i, r := range all {
		go func() {
			done <- r.flood(w.topics.Of(mqtt.KindTele, "n"+strconv.Itoa(i), ""), payload, b.N/clients+1, window)
		}()
	}
	for range clients {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// flood publishes n messages with at most window of them unacknowledged.
func (r *raw) flood(topic, payload string, n, window int) error {
	var batch bytes.Buffer
	for i := range min(n, window) {
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, ProtocolVersion: 4, PacketID: uint16(i + 1),
			TopicName: topic, Payload: []byte(payload)}
		if err := pk.PublishEncode(&batch); err != nil {
			return err
		}
	}
	in := bufio.NewReader(r.conn)
	for sent := 0; sent < n; sent += window {
		if _, err := r.conn.Write(batch.Bytes()); err != nil {
			return err
		}
		if err := r.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := in.Discard(4 * min(n, window)); err != nil { // a PUBACK has four bytes [MQTT-3.4]
			return err
		}
	}
	return nil
}
