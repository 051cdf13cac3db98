package kube

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/kube/certs"
	"github.com/skerry-edge/skerry/cluster/kube/kubelet"
	"github.com/skerry-edge/skerry/cluster/kube/tunnel"
)

// The ways to the kubelet API; Virtual.Via may also be auto.
const (
	viaAuto   = "auto"
	viaK3s    = "k3s"
	viaDirect = "direct"
)

// reach is how the API server comes to the kubelet API.
type reach struct {
	via     string
	address corev1.NodeAddress // of every virtual node
	servers *tunnel.Servers    // nil when direct
	tunnel  *tunnel.Tunnel
	client  *certs.Keeper         // of the tunnel
	lacks   atomic.Pointer[error] // why it has no certificate
	serving *certs.Keeper         // of the kubelet API
	mute    atomic.Pointer[error] // why that has none
}

// reachable decides how, by the configuration and by what the API server is.
func (l *life) reachable(ctx context.Context, clients kubernetes.Interface, version string) (*reach, error) {
	v := l.cfg.Virtual
	r := &reach{via: v.Via}
	if v.Via == viaAuto {
		k3s, err := isK3s(ctx, clients, version)
		if err != nil {
			return nil, err
		}
		r.via = viaDirect
		if k3s {
			r.via = viaK3s
		}
	}
	if r.via == viaDirect {
		r.address = corev1.NodeAddress{Type: corev1.NodeHostName, Address: cmp.Or(v.Address, v.Advertised)}
		if net.ParseIP(r.address.Address) != nil {
			r.address.Type = corev1.NodeInternalIP
		}
		return r, nil
	}
	// k3s looks for the tunnel of a node with an IP address by that address, and an address of a server's would take that server's own
	// node away from it. A host name is the tunnel's name, and all our nodes have the same.
	r.address = corev1.NodeAddress{Type: corev1.NodeHostName, Address: v.Address}
	if v.Address == "" || net.ParseIP(v.Address) != nil {
		name := "skerry-" + l.cfg.Cluster
		if l.cfg.Replica != "" { // each has the nodes of its own devices, and a server takes any of the sessions of one name
			name += "-" + l.cfg.Replica
		}
		r.address.Address = fmt.Sprintf("%s.%s.svc.cluster.local", name, l.cfg.Namespace)
	}
	return r, nil
}

const askWithin = 10 * time.Second

// isK3s reports whether an API server is one of k3s: by its version, or by what k3s answers beside the API (RKE2 too, where the version
// says something else).
func isK3s(ctx context.Context, clients kubernetes.Interface, version string) (bool, error) {
	if strings.Contains(version, "+k3s") {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	raw, err := clients.Discovery().RESTClient().Get().AbsPath("/ping").DoRaw(ctx)
	if _, answered := errors.AsType[*apierrors.StatusError](err); err != nil && !answered {
		return false, fmt.Errorf("ask whether it is k3s: %w", err)
	}
	return err == nil && strings.TrimSpace(string(raw)) == "pong", nil
}

// addTunnel keeps sessions with the servers of k3s. leaderOnly: by who holds the lease, for a server takes any of the sessions of one name.
func (l *life) addTunnel(cfg *rest.Config, clients kubernetes.Interface, ports *kubelet.Ports, r *reach, leaderOnly bool) error {
	trust, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return fmt.Errorf("trust of k3s servers: %w", err)
	}
	at, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return fmt.Errorf("address of the API server: %w", err)
	}
	client := certs.New(certs.Want{Name: r.address.Address, Signer: certificatesv1.KubeAPIServerClientKubeletSignerName, Usage: certificatesv1.UsageClientAuth},
		clients.CertificatesV1().CertificateSigningRequests(), l.cfg.Now)
	r.client = client
	if trust == nil {
		trust = &tls.Config{}
	}
	trust.MinVersion, trust.Certificates, trust.GetClientCertificate, trust.NextProtos = tls.VersionTLS12, nil, client.Client, []string{"http/1.1"}
	r.servers = &tunnel.Servers{Slices: clients.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault), First: hostPort(at), Log: l.cfg.Log}
	r.tunnel = tunnel.New(tunnel.Config{Follow: r.servers.Follow, TLS: trust, Open: func(port int) bool { return ports.Node(port) != "" },
		Host: cmp.Or(ports.Host, "127.0.0.1"), Log: l.cfg.Log, Now: l.cfg.Now})
	keep := func(ctx context.Context) error { return l.keepCertificate(ctx, client, &r.lacks, "tunnel of k3s") }
	run := func(ctx context.Context) error {
		select {
		case <-client.First():
			return r.tunnel.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	}
	return errors.Join(l.add(leaderOnly, keep), l.add(leaderOnly, run))
}

// keepCertificate tries again where a right or a signer is missing: all else works without.
func (l *life) keepCertificate(ctx context.Context, keeper *certs.Keeper, lacks *atomic.Pointer[error], use string) error {
	wait := agent.Backoff{Min: time.Second, Max: time.Minute}
	for {
		err := keeper.Start(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if lacks.Swap(&err) == nil {
			l.cfg.Log.Warn("no certificate of the cluster", agent.KeyReason, use, agent.KeyErr, err)
		}
		if !agent.Wait(ctx, max(wait.Next(), time.Second)) {
			return nil
		}
	}
}

func hostPort(u *url.URL) string {
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443"))
}

func (r *reach) status() *api.KubeletStatus {
	st := &api.KubeletStatus{Via: r.via, Address: r.address.Address}
	if r.tunnel != nil {
		st.Tunnel = r.tunnel.Status()
	}
	return st
}

func (r *reach) trouble() (out []string) {
	if err := r.mute.Load(); err != nil && !r.serving.Has() {
		out = append(out, fmt.Sprintf("no certificate for the kubelet API: %.300s; logs, exec and port-forward of devices fail; pods run all the same", oneLine(*err)))
	}
	if r.tunnel == nil {
		return out
	}
	if err := r.lacks.Load(); err != nil && !r.client.Has() {
		return append(out, fmt.Sprintf("no certificate for the tunnel of k3s: %.300s; logs, exec and port-forward of devices fail; see install/kube/rbac.yaml", oneLine(*err)))
	}
	if err := r.servers.Trouble(); err != nil {
		out = append(out, fmt.Sprintf("the servers of k3s are not known: %.300s; see install/kube/rbac.yaml", oneLine(err)))
	}
	for _, s := range r.tunnel.Status() {
		if !s.Connected && s.Reason != "" {
			out = append(out, fmt.Sprintf("k3s server %s has no tunnel session since %s: %.300s; logs, exec and port-forward of devices fail there",
				s.Server, s.Since.Time().UTC().Format(time.RFC3339), s.Reason))
		}
	}
	return out
}
