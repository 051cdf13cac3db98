package mqtt_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/test/freeport"
)

func TestTheAccessListSaysWhatTheContractSays(t *testing.T) {
	topics := aclTopics(t)
	ids := identities()
	m := mqtt.Mosquitto{Operators: []mqtt.Identity{ids["viewer"], ids["operator"], ids["node"]}}
	got := m.AccessList(topics)
	for _, want := range []string{
		"pattern write skerry/v1/c1/%u/state\n", "pattern write skerry/v1/c1/%u/cmd/+/status\n", "pattern read skerry/v1/c1/%u/cmd/+\n",
		"pattern read skerry/v1/c1/%u/desired\n", "user cluster:c1\ntopic readwrite skerry/v1/c1/#\n",
		"user operator:eve\ntopic read skerry/v1/c1/+/state\n", "topic write skerry/v1/c1/+/request/+\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "user n1") || strings.Count(got, "topic write") != 1 {
		t.Errorf("a node or a viewer was given too much:\n%s", got)
	}
}

// peer is Debian's mosquitto with the configuration that we generate.
type peer struct {
	t    *testing.T
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
	addr string
	dir  string
}

// program finds an installed program; under CI it is a failure that there is none.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, candidate := range []string{name, "/usr/sbin/" + name} { // Debian keeps daemons out of a user's PATH
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

func newPeer(t *testing.T, operators ...mqtt.Identity) *peer {
	t.Helper()
	path := program(t, "mosquitto")
	p := &peer{t: t, dir: t.TempDir()}
	var err error
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	p.ca = &x509.Certificate{Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId: []byte{1}}
	p.write("ca.pem", "CERTIFICATE", p.sign(p.ca, p.key))
	server, key := p.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	p.write("server.pem", "CERTIFICATE", server)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p.write("server.key", "PRIVATE KEY", der)

	p.addr = freeport.Addr(t)
	_, port, _ := net.SplitHostPort(p.addr)
	file := func(name string) string { return filepath.Join(p.dir, name) }
	m := mqtt.Mosquitto{Listen: port + " 127.0.0.1", CA: file("ca.pem"), Certificate: file("server.pem"), Key: file("server.key"),
		ACL: file("acl"), Operators: operators}
	for name, text := range map[string]string{"mosquitto.conf": m.Config(), "acl": m.AccessList(aclTopics(t))} {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.giveAway()
	p.run(path, file("mosquitto.conf"))
	return p
}

// giveAway lets the user that mosquitto becomes read the files, as `skerry-cluster broker-config` does.
func (p *peer) giveAway() {
	p.t.Helper()
	if os.Getuid() != 0 {
		return
	}
	who, err := user.Lookup("mosquitto")
	if err != nil {
		p.t.Fatal(err)
	}
	uid, uerr := strconv.Atoi(who.Uid)
	gid, gerr := strconv.Atoi(who.Gid)
	if uerr != nil || gerr != nil {
		p.t.Fatal(uerr, gerr)
	}
	err = filepath.WalkDir(p.dir, func(path string, _ fs.DirEntry, err error) error { return errors.Join(err, os.Chown(path, uid, gid)) })
	if err := errors.Join(err, os.Chmod(filepath.Dir(p.dir), 0o711)); err != nil { // the tests' own directory is root's alone
		p.t.Fatal(err)
	}
}

// run starts mosquitto and waits until it listens.
func (p *peer) run(path, conf string) {
	p.t.Helper()
	var log strings.Builder
	cmd := exec.CommandContext(context.WithoutCancel(p.t.Context()), path, "-c", conf)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if p.t.Failed() {
			p.t.Logf("mosquitto: %s", log.String())
		}
	})
	for since := time.Now(); time.Since(since) < peerPatience; {
		conn, err := net.DialTimeout("tcp", p.addr, time.Second)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			p.t.Fatalf("mosquitto ended: %v: %s", err, log.String())
		case <-time.After(25 * time.Millisecond):
		}
	}
	p.t.Fatal("mosquitto does not listen")
}

func (p *peer) write(name, kind string, der []byte) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) sign(template *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	p.t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, p.ca, &key.PublicKey, p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	return der
}

func (p *peer) issue(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	return p.sign(template, key), key
}

const peerPatience = time.Minute

// join connects with a certificate for id; nil when that is refused.
func (p *peer) join(id mqtt.Identity, clientID string, tweak ...func(*paho.ClientOptions)) paho.Client {
	p.t.Helper()
	der, key := p.issue(&x509.Certificate{Subject: id.Subject(), URIs: []*url.URL{id.URI()}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	roots := x509.NewCertPool()
	pemCA, err := os.ReadFile(filepath.Join(p.dir, "ca.pem"))
	if err != nil || !roots.AppendCertsFromPEM(pemCA) {
		p.t.Fatalf("read CA: %v", err)
	}
	opts := paho.NewClientOptions().AddBroker("ssl://" + p.addr).SetClientID(clientID).SetAutoReconnect(false).SetProtocolVersion(4).
		SetConnectTimeout(peerPatience).SetTLSConfig(&tls.Config{RootCAs: roots, ServerName: "localhost",
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	for _, f := range tweak {
		f(opts)
	}
	c := paho.NewClient(opts)
	if err := peerSettle(c.Connect()); err != nil {
		p.t.Logf("connect %s as %q: %v", id.CommonName(), clientID, err)
		return nil
	}
	p.t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func peerSettle(token paho.Token) error {
	if !token.WaitTimeout(peerPatience) {
		return errors.New("no answer")
	}
	return token.Error()
}

func TestPeerMosquittoLetsEachDoItsOwnAndNoMore(t *testing.T) {
	ids := identities()
	p := newPeer(t, ids["viewer"], ids["operator"])
	topics := aclTopics(t)
	good, bad, cluster := p.join(ids["node"], "n1"), p.join(mqtt.Identity{Kind: mqtt.NodeIdentity, Name: "n2", Cluster: "c1"}, "n2"), p.join(ids["cluster"], "x")
	viewer, operator := p.join(ids["viewer"], "x"), p.join(ids["operator"], "x")
	if good == nil || bad == nil || cluster == nil || viewer == nil || operator == nil {
		t.Fatal("somebody with a good certificate was refused")
	}
	listen := func(c paho.Client, filters ...string) <-chan string {
		t.Helper()
		out := make(chan string, 64)
		for _, f := range filters { // mosquitto grants what it will not deliver
			if err := peerSettle(c.Subscribe(f, 1, func(_ paho.Client, m paho.Message) { out <- m.Topic() + " " + string(m.Payload()) })); err != nil {
				t.Fatalf("subscribe %s: %v", f, err)
			}
		}
		return out
	}
	say := func(c paho.Client, topic, text string, retain bool) {
		t.Helper()
		if err := peerSettle(c.Publish(topic, 1, retain, text)); err != nil {
			t.Fatalf("publish %s: %v", topic, err)
		}
	}
	hear := func(who string, in <-chan string, topic, text string) {
		t.Helper()
		select {
		case got := <-in:
			if got != topic+" "+text {
				t.Errorf("%s got %q; wanted %q", who, got, topic+" "+text)
			}
		case <-time.After(peerPatience):
			t.Errorf("%s never got %q", who, topic+" "+text)
		}
	}
	agent := listen(cluster, topics.All())
	toGood := listen(good, topics.Filter(mqtt.KindCmd, "n1"), topics.Of(mqtt.KindDesired, "n1", ""))
	toBad := listen(bad, "#", topics.All(), topics.Node("n1"), topics.Filter(mqtt.KindCmd, "+"))
	seen, told := listen(viewer, topics.All()), listen(operator, topics.Filter(mqtt.KindRequestStatus, "+"))

	// Each attack is acknowledged, as MQTT 3.1.1 has it, and reaches nobody.
	for _, e := range mqtt.Contract() {
		say(bad, topics.Of(e.Kind, "n1", "k9"), "forged", e.Retain)
		if e.Dir != mqtt.Up {
			say(bad, topics.Of(e.Kind, "n2", "k9"), "forged", e.Retain)
			say(viewer, topics.Of(e.Kind, "n1", "k9"), "forged", e.Retain)
		}
		if e.Dir != mqtt.Ask {
			say(operator, topics.Of(e.Kind, "n1", "k9"), "forged", e.Retain)
		}
	}
	say(bad, "elsewhere", "forged", true)

	state, cmd, request := topics.Of(mqtt.KindState, "n1", ""), topics.Of(mqtt.KindCmd, "n1", "k1"), topics.Of(mqtt.KindRequest, "n1", "r1")
	say(good, state, "online", true)
	hear("cluster agent", agent, state, "online")
	hear("viewer", seen, state, "online")
	say(cluster, cmd, "order", false)
	hear("cluster agent", agent, cmd, "order")
	hear("node", toGood, cmd, "order")
	say(operator, request, "ping", false)
	hear("cluster agent", agent, request, "ping")
	say(cluster, topics.Of(mqtt.KindRequestStatus, "n1", "r1"), "done", false)
	hear("cluster agent", agent, topics.Of(mqtt.KindRequestStatus, "n1", "r1"), "done")
	hear("operator", told, topics.Of(mqtt.KindRequestStatus, "n1", "r1"), "done") // and the viewer does not, as what he hears next shows
	say(cluster, topics.Of(mqtt.KindCmd, "n2", "k2"), "yours", false)
	hear("other node", toBad, topics.Of(mqtt.KindCmd, "n2", "k2"), "yours")

	// A client id of somebody else is not taken for it, and a will is published only where its owner may.
	will := topics.Of(mqtt.KindState, "n1", "")
	bad.Disconnect(100)
	thief := p.join(mqtt.Identity{Kind: mqtt.NodeIdentity, Name: "n2", Cluster: "c1"}, "n1",
		func(o *paho.ClientOptions) { o.SetWill(will, "forged", 1, true) })
	if thief != nil { // takes itself over, without a goodbye: its will is due
		p.join(mqtt.Identity{Kind: mqtt.NodeIdentity, Name: "n2", Cluster: "c1"}, "n1")
	}
	say(good, state, "still here", true)
	hear("viewer", seen, state, "still here")
	if !good.IsConnectionOpen() {
		t.Error("a node lost its session to another's client id")
	}
	hear("late viewer", listen(p.join(ids["operator"], "y"), state), state, "still here")
}
