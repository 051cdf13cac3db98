package kube

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// connect answers CONNECT with a connection to where k3s would go, or 502.
func (t *Tunnel) connect(rw http.ResponseWriter, req *http.Request) {
	back, err := t.dial(req.Context(), req.Host)
	if err != nil {
		refuse(rw, req, http.StatusBadGateway, err)
		return
	}
	defer back.Close()
	rw.WriteHeader(http.StatusOK)
	front, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return // the client is gone
	}
	defer front.Close()
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(back, buffered); done <- struct{}{} }()
	go func() { _, _ = io.Copy(front, back); done <- struct{}{} }()
	<-done // k3s too ends both with the first
}

// dial follows the rule of k3s's dialBackend in its default mode (agent). An IP address is looked up among the nodes', any
// other host is a node's name. A kubelet is reached over the node's session, at its loopback address, and a node without a
// session is refused; what else goes wrong there, or is no kubelet, is dialled directly.
func (t *Tunnel) dial(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	node, kubelet, tunnelled := host, true, true
	if net.ParseIP(host) != nil {
		node, kubelet, tunnelled = t.nodes.at(host, port)
	}
	switch {
	case node != "" && node == t.serverNode:
		tunnelled = false
		if kubelet {
			address = net.JoinHostPort(t.address, port)
		}
	case kubelet:
		address = net.JoinHostPort("127.0.0.1", port)
	}
	if tunnelled {
		conn, err := t.server.Dialer(node)(ctx, "tcp", address)
		if err == nil {
			return conn, nil
		}
		if kubelet && strings.HasPrefix(err.Error(), "failed to find Session for client") {
			return nil, err
		}
	}
	var direct net.Dialer
	return direct.DialContext(ctx, "tcp", address)
}

// nodeTable knows which node has which IP address, as k3s's table does: the last node that reports an address has it, also
// after it is gone.
type nodeTable struct {
	client *http.Client
	url    string

	mu      sync.Mutex
	entries map[string]nodeEntry // by IP
	egress  map[string]bool      // nodes through which pods are reached
}

type nodeEntry struct{ name, kubeletPort string }

// streamPort is containerd's, by k3s's configuration.
const streamPort = "10010"

// at returns the node that has an IP, whether the port is its kubelet's, and whether to go through the tunnel.
func (t *nodeTable) at(ip, port string) (node string, kubelet, tunnelled bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, known := t.entries[ip]
	if !known {
		return "", false, false
	}
	if e.kubeletPort != "" && (port == e.kubeletPort || port == streamPort) {
		return e.name, true, true
	}
	return e.name, false, t.egress[e.name]
}

// node is what the table needs of one.
type node struct {
	Metadata struct {
		Name              string            `json:"name"`
		Labels            map[string]string `json:"labels"`
		DeletionTimestamp *time.Time        `json:"deletionTimestamp"`
	} `json:"metadata"`
	Status struct {
		Addresses       []struct{ Type, Address string } `json:"addresses"`
		DaemonEndpoints struct {
			KubeletEndpoint struct{ Port int }
		} `json:"daemonEndpoints"`
	} `json:"status"`
}

func (t *nodeTable) note(n node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, t.egress[n.Metadata.Name] = n.Metadata.Labels["egress.k3s.io/cluster"]
	for _, a := range n.Status.Addresses {
		if (a.Type != "InternalIP" && a.Type != "ExternalIP") || net.ParseIP(a.Address) == nil {
			continue
		}
		if n.Metadata.DeletionTimestamp != nil {
			delete(t.entries, a.Address)
			continue
		}
		t.entries[a.Address] = nodeEntry{n.Metadata.Name, fmt.Sprint(n.Status.DaemonEndpoints.KubeletEndpoint.Port)}
	}
}

// follow watches the nodes until ctx ends; a watch without a version begins with all that are there.
func (t *nodeTable) follow(ctx context.Context) error {
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		err := t.watch(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-again.C: // whatever ended the watch, an API server that is away too
			_ = err
		}
	}
}

func (t *nodeTable) watch(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url+"?watch=true", nil)
	if err != nil {
		return err
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	events := json.NewDecoder(bufio.NewReader(resp.Body))
	for {
		var event struct {
			Type   string
			Object node
		}
		if err := events.Decode(&event); err != nil {
			return err
		}
		if event.Type == "ADDED" || event.Type == "MODIFIED" {
			t.note(event.Object)
		}
	}
}
