package system

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// natsServer starts a NATS server as an MQTT broker with the certificates that broker-config wrote. NATS takes the URI in a
// client's certificate for its user name and knows no patterns, so every node has an entry of its own.
func natsServer(p *pair, conf string) {
	p.t.Helper()
	program, err := Program("nats-server")
	if err != nil {
		p.t.Fatal(err)
	}
	var users strings.Builder
	for _, replica := range []string{"a", "b"} {
		fmt.Fprintf(&users, "    {user: \"spiffe://test/cluster/%s\", permissions: {publish: \"skerry.v1.test.>\", subscribe: [\"skerry.v1.test.>\", \"$MQTT.sub.>\"]}}\n", replica)
	}
	for i := range replicaNodes {
		own := fmt.Sprintf("skerry.v1.test.n%d.", i+1)
		subjects := func(names ...string) string {
			return `"` + own + strings.Join(names, `", "`+own) + `"`
		}
		fmt.Fprintf(&users, "    {user: \"spiffe://test/node/n%d\", permissions: {publish: [%s], subscribe: [%s, \"$MQTT.sub.>\"]}}\n", i+1,
			subjects("state", "birth", "tele", "event", "reported", "cmd.*.status", "stream.*.up"), subjects("desired", "cmd.*", "ack", "stream.*.down"))
	}
	file := filepath.Join(conf, "nats.conf")
	text := fmt.Sprintf(`server_name: skerry
listen: "127.0.0.1:-1"
max_payload: 139264
jetstream: {store_dir: %q}
mqtt: {
  listen: %q
  max_ack_pending: 64
  tls: {cert_file: %q, key_file: %q, ca_file: %q, verify_and_map: true}
}
authorization: {
  users: [
%s  ]
}
`, filepath.Join(p.dir, "jetstream"), p.broker, filepath.Join(conf, "broker.crt"), filepath.Join(conf, "broker.key"), filepath.Join(conf, "ca.crt"), users.String())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	s := &Process{Name: "nats-server", Log: filepath.Join(p.dir, "nats-server.log"), Program: program, Args: []string{"-DV", "-c", file}}
	cleanup(p.t, s)
	start(p.t, s)
	poll(p.t, time.Minute, "NATS listens", func() error {
		conn, err := net.Dial("tcp", p.broker)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// TestNATSKeepsNodesToTheirOwn connects with a node's certificate and asks for more than its own. What NATS lets through
// besides is in docs/brokers.md.
func TestNATSKeepsNodesToTheirOwn(t *testing.T) {
	t.Parallel()
	p := newPair(t, natsServer)
	p.enrol(2)
	p.settled(time.Minute, "a", "b")
	topic := func(rest string) string { return "skerry/v1/test/" + rest }
	eve := p.as(t, "n1", "eve")
	for _, filter := range []string{topic("n2/desired"), topic("+/desired"), topic("#"), topic("n1/cmd/+/status"), "#"} {
		token := eve.Subscribe(filter, 1, func(_ paho.Client, m paho.Message) { t.Errorf("n1 was sent %s", m.Topic()) })
		token.WaitTimeout(time.Minute)
		if granted := token.(*paho.SubscribeToken).Result()[filter]; granted != 0x80 {
			t.Errorf("n1 was granted %s: %#x", filter, granted)
		}
	}
	heard := make(chan string, 16)
	n2 := p.as(t, "n2", "listener")
	if token := n2.Subscribe(topic("n2/desired"), 1, func(_ paho.Client, m paho.Message) { heard <- string(m.Payload()) }); !token.WaitTimeout(time.Minute) {
		t.Fatal("no SUBACK")
	}
	if m := <-heard; !strings.Contains(m, "signature") {
		t.Fatalf("n2 is sent %q as its desired document", m)
	}
	for _, other := range []string{"n2/state", "n2/desired", "n1/desired", "n2/admission", "a/replica", "n1/request/r1"} {
		forger := p.as(t, "n1", "forger")
		forger.Publish(topic(other), 1, true, "forged").WaitTimeout(2 * time.Second)
		t.Logf("publish to %s: connected afterwards: %t", other, forger.IsConnected())
		forger.Disconnect(0)
	}
	pass(t, 2*time.Second)
	select {
	case m := <-heard:
		t.Errorf("n2 was sent %q of n1", m)
	default:
	}
	thief := p.as(t, "n1", "n2") // the client id of another node
	pass(t, 2*time.Second)
	t.Logf("n1 holds the client id n2: %t", thief.IsConnected())
	thief.Disconnect(0)
	p.settled(time.Minute, "a", "b")
}

// as connects with the certificate of a node that is enrolled, under a client id of its own: NATS does not tie the two.
func (p *pair) as(t *testing.T, node, id string) paho.Client {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(p.dir, "a", node, "state", "identity.json"))
	if err != nil {
		t.Fatal(err)
	}
	var identity struct{ Key, Certificate, CA string }
	if err := json.Unmarshal(raw, &identity); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(identity.Certificate), []byte(identity.Key))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(identity.CA))
	c := paho.NewClient(paho.NewClientOptions().AddBroker("ssl://" + p.broker).SetClientID(id).SetAutoReconnect(false).SetConnectTimeout(time.Minute).
		SetTLSConfig(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, Certificates: []tls.Certificate{pair}}))
	if token := c.Connect(); !token.WaitTimeout(time.Minute) || token.Error() != nil {
		t.Fatalf("connect as %s: %v", node, token.Error())
	}
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}
