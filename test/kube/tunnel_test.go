package kube

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/rancher/remotedialer"
)

// fakeKubelet serves the logs of any container on loopback, to the API server alone, until the test ends.
func fakeKubelet(t *testing.T, p *ControlPlane, cert tls.Certificate) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if user := req.TLS.PeerCertificates[0].Subject.CommonName; user != "system:apiserver" {
			http.Error(rw, "I do not know "+user, http.StatusForbidden)
			return
		}
		fmt.Fprintln(rw, "log of", req.URL.Path)
		if req.URL.Query().Get("follow") == "true" {
			http.NewResponseController(rw).Flush()
			<-req.Context().Done()
		}
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: p.papers.clients.pool()}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// connect keeps a session of a node, as k3s's agent does, until the test ends.
func connect(t *testing.T, p *ControlPlane, cert tls.Certificate) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	dialer := &websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: p.papers.servers.pool(), Certificates: []tls.Certificate{cert}}}
	loopback := func(proto, address string) bool { return proto == "tcp" && strings.HasPrefix(address, "127.0.0.1:") }
	go func() {
		defer close(done)
		again := time.NewTicker(100 * time.Millisecond)
		defer again.Stop()
		for {
			_ = remotedialer.ConnectToProxy(ctx, "wss://"+p.Tunnel.Address()+"/v1-k3s/connect", nil, loopback, dialer, nil) // tried again
			select {
			case <-ctx.Done():
				return
			case <-again.C:
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	host := strings.TrimPrefix(cert.Leaf.Subject.CommonName, "system:node:")
	eventually(t, time.Minute, "the session of "+host, func() error { return sessionOf(p, host) })
}

func sessionOf(p *ControlPlane, host string) error {
	if !p.Tunnel.HasSession(host) {
		return errors.New("no session")
	}
	return nil
}

// onNode makes a node with one address, and a pod that is bound to it.
func onNode(t *testing.T, p *ControlPlane, name, typ, address string, port int) {
	t.Helper()
	apply(t, p, fmt.Sprintf(worker, name), "create", "-f", "-")
	kubectl(t, p, "patch", "node", name, "--subresource=status", "-p", fmt.Sprintf(
		`{"status":{"addresses":[{"type":%q,"address":%q}],"daemonEndpoints":{"kubeletEndpoint":{"Port":%d}}}}`, typ, address, port))
	apply(t, p, fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: on-%[1]s}, spec: {nodeName: %[1]s, containers: [{name: c, image: x}]}}", name), "create", "-f", "-")
	t.Cleanup(func() {
		_, err := p.Admin.Kubectl(context.Background(), "delete", "pod/on-"+name, "node/"+name, "--force", "--grace-period=0")
		if err != nil {
			t.Error(err)
		}
	})
}

// TestLogsComeThroughTheTunnel goes all the way of the bridge: certificates by the CSR API, a session at /v1-k3s/connect, a
// node with that one host name, kubectl.
func TestLogsComeThroughTheTunnel(t *testing.T) {
	p := cluster(t)
	kubelet := fakeKubelet(t, p, servingOf(t, p, "bridge-serving", bridge))
	port := kubelet.Listener.Addr().(*net.TCPAddr).Port
	connect(t, p, clientOf(t, p, "bridge-client", bridge))
	for _, name := range []string{"virtual-1", "virtual-2"} { // of one address, all
		onNode(t, p, name, "Hostname", bridge, port)
		if got, want := kubectl(t, p, "logs", "on-"+name), "log of /containerLogs/default/on-"+name+"/c\n"; got != want {
			t.Errorf("logs are %q; wanted %q", got, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	follow := p.Admin.Command(ctx, "logs", "-f", "on-virtual-1")
	out, err := follow.StdoutPipe()
	if err == nil {
		err = follow.Start()
	}
	line := make([]byte, 64)
	if err == nil {
		_, err = out.Read(line) // while the other side writes no more
	}
	if err != nil || !strings.HasPrefix(string(line), "log of") {
		t.Errorf("followed: %q, %v", line, err)
	}
	cancel()
	_ = follow.Wait() // killed
}

func TestANodeWithoutASessionIsRefused(t *testing.T) {
	p := cluster(t)
	kubelet := fakeKubelet(t, p, servingOf(t, p, "alone-serving", "alone"))
	port := kubelet.Listener.Addr().(*net.TCPAddr).Port
	onNode(t, p, "by-name", "Hostname", "alone", port)
	onNode(t, p, "by-address", "InternalIP", "127.0.0.1", port) // where a kubelet listens, even
	for _, name := range []string{"by-name", "by-address"} {
		eventually(t, time.Minute, name+" is refused", func() error { // the table follows the node
			_, err := p.Admin.Kubectl(t.Context(), "logs", "on-"+name)
			return refusedWith(err, "code 502: 502 Bad Gateway")
		})
	}
	connect(t, p, clientOf(t, p, "alone-client", "by-address")) // k3s knows a node with an IP by its name
	if got := kubectl(t, p, "logs", "on-by-address"); !strings.HasPrefix(got, "log of") {
		t.Errorf("logs are %q", got)
	}
}

func TestOnlyNodesOpenTheTunnel(t *testing.T) {
	p := cluster(t)
	foreign, err := newAuthority(t.TempDir(), "foreign")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		by     *authority
		user   string
		groups []string
		want   int
	}{
		{"nobody", nil, "", nil, http.StatusForbidden},
		{"an administrator", p.papers.clients, "system:admin", []string{"system:masters"}, http.StatusForbidden},
		{"a node's name without the group", p.papers.clients, "system:node:a", nil, http.StatusForbidden},
		{"a member of the group that is no node", p.papers.clients, "eve", []string{"system:nodes"}, http.StatusUnauthorized},
		{"a node of another CA", foreign, "system:node:a", []string{"system:nodes"}, http.StatusUnauthorized},
		{"a node", p.papers.clients, "system:node:a", []string{"system:nodes"}, http.StatusSwitchingProtocols},
	} {
		config := &tls.Config{RootCAs: p.papers.servers.pool()}
		if c.by != nil {
			files, err := c.by.client(t.TempDir(), "x", c.user, c.groups...)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := tls.LoadX509KeyPair(files.cert, files.key)
			if err != nil {
				t.Fatal(err)
			}
			// Whatever CAs the server names.
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		}
		ws, resp, err := (&websocket.Dialer{TLSClientConfig: config}).DialContext(t.Context(), "wss://"+p.Tunnel.Address()+"/v1-k3s/connect", nil)
		if resp == nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if resp.StatusCode != c.want {
			t.Errorf("%s: %s; wanted %d", c.what, resp.Status, c.want)
		}
		if ws != nil {
			ws.Close()
		}
	}
}

// TestTheTunnelGoesAndComes takes the server away, as a restart of k3s does.
func TestTheTunnelGoesAndComes(t *testing.T) {
	p := cluster(t)
	kubelet := fakeKubelet(t, p, servingOf(t, p, "restart-serving", "restart"))
	connect(t, p, clientOf(t, p, "restart-client", "restart"))
	onNode(t, p, "restarted", "Hostname", "restart", kubelet.Listener.Addr().(*net.TCPAddr).Port)
	if err := p.Tunnel.Stop(); err != nil {
		t.Fatal(err)
	}
	_, err := p.Admin.Kubectl(t.Context(), "get", "nodes")
	if err := refusedWith(err, "refused"); err != nil {
		t.Error(err)
	}
	eventually(t, time.Minute, "the session ends", func() error {
		if p.Tunnel.HasSession("restart") {
			return errors.New("still there")
		}
		return nil
	})
	if err := p.Tunnel.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the session is back", func() error { return sessionOf(p, "restart") })
	if got := kubectl(t, p, "logs", "on-restarted"); !strings.HasPrefix(got, "log of") {
		t.Errorf("logs are %q", got)
	}
}

// TestTheDoorTellsWhoAsks holds that the API server behind the door sees the certificate's user, and nobody's claims.
func TestTheDoorTellsWhoAsks(t *testing.T) {
	p := cluster(t)
	eve, err := p.User("eve", "people")
	if err != nil {
		t.Fatal(err)
	}
	who, err := eve.Kubectl(t.Context(), "auth", "whoami", "-o", "jsonpath={.status.userInfo.username} {.status.userInfo.groups}")
	if err != nil || who != `eve ["people","system:authenticated"]` {
		t.Errorf("whoami: %s, %v", who, err)
	}
	transport, err := p.papers.transport(pair{eve.Cert, eve.Key})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL()+"/api/v1/nodes", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Remote-User", "system:admin")
	req.Header.Set("X-Remote-Group", "system:masters")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("eve as administrator: %s", resp.Status)
	}
}

// TestTheLookUpRuleIsK3s needs no cluster.
func TestTheLookUpRuleIsK3s(t *testing.T) {
	at := func(name string, port int, labels map[string]string, ips ...string) node {
		var n node
		n.Metadata.Name, n.Metadata.Labels, n.Status.DaemonEndpoints.KubeletEndpoint.Port = name, labels, port
		for _, ip := range ips {
			n.Status.Addresses = append(n.Status.Addresses, struct{ Type, Address string }{"InternalIP", ip})
		}
		return n
	}
	table := &nodeTable{entries: map[string]nodeEntry{}, egress: map[string]bool{}}
	gone := at("gone", 10250, nil, "10.0.0.3")
	table.note(at("real", 10250, nil, "10.0.0.1"))
	table.note(at("router", 10250, map[string]string{"egress.k3s.io/cluster": ""}, "10.0.0.2"))
	table.note(gone)
	now := time.Now()
	gone.Metadata.DeletionTimestamp = &now
	table.note(gone)
	for _, c := range []struct {
		ip, port, node     string
		kubelet, tunnelled bool
	}{
		{"10.0.0.1", "10250", "real", true, true},
		{"10.0.0.1", "10010", "real", true, true},
		{"10.0.0.1", "80", "real", false, false},
		{"10.0.0.2", "80", "router", false, true},
		{"10.0.0.3", "10250", "", false, false},
		{"10.0.0.9", "10250", "", false, false},
	} {
		if node, kubelet, tunnelled := table.at(c.ip, c.port); node != c.node || kubelet != c.kubelet || tunnelled != c.tunnelled {
			t.Errorf("%s:%s is at %q, a kubelet: %t, tunnelled: %t; wanted %+v", c.ip, c.port, node, kubelet, tunnelled, c)
		}
	}
	table.note(at("virtual", 10250, nil, "10.0.0.1")) // who says the address last has it
	if node, _, _ := table.at("10.0.0.1", "10250"); node != "virtual" {
		t.Errorf("10.0.0.1 is at %s", node)
	}
}

// TestTheLookUpRuleDialsAsK3s needs no cluster either: what is not refused is dialled directly.
func TestTheLookUpRuleDialsAsK3s(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	table := &nodeTable{entries: map[string]nodeEntry{"10.0.0.1": {"real", port}, "10.0.0.2": {"server", port}}, egress: map[string]bool{}}
	tunnel := &Tunnel{address: "127.0.0.1", serverNode: "server", nodes: table, server: remotedialer.New(sessionKey, refuse)}
	for address, want := range map[string]bool{
		"real:" + port:      false, // by name, without a session
		"10.0.0.1:" + port:  false, // by address
		"server:" + port:    true,  // beside the server
		"10.0.0.2:" + port:  true,
		"127.0.0.1:" + port: true, // no node's address
	} {
		conn, err := tunnel.dial(t.Context(), address)
		if (err == nil) != want {
			t.Errorf("%s: %v; wanted it dialled: %t", address, err, want)
		}
		if !want && !strings.HasPrefix(fmt.Sprint(err), "failed to find Session for client real") {
			t.Errorf("%s: %v", address, err)
		}
		if conn != nil {
			conn.Close()
		}
	}
}
