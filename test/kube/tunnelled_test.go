package kube

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/freeport"
)

// beside is another k3s server's tunnel, at an address of its own, as endpoints may not be loopback addresses.
func beside(t *testing.T, p *ControlPlane, address string) *Tunnel {
	t.Helper()
	if out, err := exec.Command("ip", "address", "add", address+"/32", "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s; this test needs root", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "address", "del", address+"/32", "dev", "lo").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	papers := *p.papers
	var err error
	if papers.apiServer, err = p.papers.servers.server(t.TempDir(), "beside", address); err != nil {
		t.Fatal(err)
	}
	other := &ControlPlane{Dir: t.TempDir(), options: p.options, port: p.port, papers: &papers}
	tunnel, err := newTunnel(other)
	if err != nil {
		t.Fatal(err)
	}
	tunnel.port.release()
	if tunnel.address, err = address, nil; err == nil {
		tunnel.port, err = reserve(address)
	}
	if err == nil {
		err = tunnel.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tunnel.close(); err != nil {
			t.Error(err)
		}
	})
	return tunnel
}

// reached waits until a pod's logs come from its device by way of the API server. Its image is nowhere, and only the device knows. (The
// API server looks up the name of a node that it proxies to, so that get --raw /api/v1/nodes/NODE/proxy fails where DNS has no such name.)
func (s *site) reached(pod string) {
	s.t.Helper()
	eventually(s.t, time.Minute, "the device of "+pod+" answers", func() error {
		_, err := s.plane.Admin.Kubectl(s.t.Context(), "logs", pod)
		return refusedWith(err, "workload.logs on tun-a") // the device says what it thinks of this pod
	})
}

// refused waits until the server has no session for the device of a pod.
func (s *site) refused(pod string) {
	s.t.Helper()
	eventually(s.t, time.Minute, pod+" is refused", func() error {
		_, err := s.plane.Admin.Kubectl(s.t.Context(), "logs", pod)
		return refusedWith(err, "code 502")
	})
}

// TestDevicesAreReachedThroughTheTunnelOfK3s: nothing but what k3s has, and the configuration as it comes (kubelet_via: auto).
func TestDevicesAreReachedThroughTheTunnelOfK3s(t *testing.T) {
	p := cluster(t)
	const host = "skerry-tunnelled.mlsysops.svc.cluster.local"
	s := newSite(t, p, "tunnelled", "kube.virtual_nodes=true", "kube.kubelet_listen="+freeport.Row(t, 20), "kube.kubelet_ports=20")
	s.stand("leading")
	s.node("tun-a")
	s.becomes("node", "tun-a", `.status.addresses[*]['type','address']`, "Hostname "+host)
	apply(t, p, "{apiVersion: v1, kind: Pod, metadata: {name: on-tun-a}, spec: {nodeName: tun-a, hostNetwork: true, containers: [{name: c, image: registry.invalid/x}]}}", "create", "-f", "-")
	t.Cleanup(func() {
		if _, err := p.Admin.Kubectl(context.Background(), "delete", "pod/on-tun-a", "node/tun-a", "--force", "--grace-period=0"); err != nil {
			t.Error(err)
		}
	})
	s.reached("on-tun-a")
	var st api.ClusterStatus
	if err := s.client.Get(t.Context(), "/v1/status", &st); err != nil {
		t.Fatal(err)
	}
	if k := st.Kube.Kubelet; k == nil || k.Via != "k3s" || k.Address != host || len(k.Tunnel) != 1 || k.Tunnel[0].Server != p.Tunnel.Address() || !k.Tunnel[0].Connected {
		t.Errorf("status %+v; wanted one session, with %s", k, p.Tunnel.Address())
	}

	// The real node of the same cluster keeps its own tunnel.
	kubelet := fakeKubelet(t, p, servingOf(t, p, "real-serving", "real-a"))
	connect(t, p, clientOf(t, p, "real-client", "real-a"))
	onNode(t, p, "real-a", "Hostname", "real-a", kubelet.Listener.Addr().(*net.TCPAddr).Port)
	if got := kubectl(t, p, "logs", "on-real-a"); !strings.HasPrefix(got, "log of") {
		t.Errorf("logs of the real node are %q", got)
	}

	if err := p.Tunnel.Stop(); err != nil { // k3s restarts
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the status says so", func() error {
		if err := s.client.Get(t.Context(), "/v1/status", &st); err != nil {
			return err
		}
		if all := strings.Join(st.Trouble, "\n"); !strings.Contains(all, "has no tunnel session") && !strings.Contains(all, "out of reach") {
			return fmt.Errorf("trouble %q", all)
		}
		return nil
	})
	if err := p.Tunnel.Start(); err != nil {
		t.Fatal(err)
	}
	s.reached("on-tun-a")

	// Another server is the only one, then gone again.
	second := beside(t, p, "198.18.77.1")
	_, port, err := net.SplitHostPort(second.Address())
	if err != nil {
		t.Fatal(err)
	}
	apply(t, p, fmt.Sprintf("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}, "+
		"addressType: IPv4, endpoints: [{addresses: [198.18.77.1]}], ports: [{name: https, port: %s}]}", port), "create", "-f", "-")
	eventually(t, time.Minute, "the other server has a session", func() error {
		if !second.HasSession(host) {
			return errUnchanged
		}
		return nil
	})
	s.refused("on-tun-a") // by the server that is none any more
	kubectl(t, p, "-n", "default", "delete", "endpointslice", "kubernetes")
	s.reached("on-tun-a")
	if second.HasSession(host) {
		t.Error("the other server has its session still")
	}
}
