package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api/edge/v1alpha1"
	v1 "github.com/skerry-edge/skerry/api/v1"
	"github.com/skerry-edge/skerry/cluster/bridge"
	"github.com/skerry-edge/skerry/cluster/kube/certs"
	"github.com/skerry-edge/skerry/cluster/kube/inventory"
	"github.com/skerry-edge/skerry/cluster/kube/kubelet"
	"github.com/skerry-edge/skerry/cluster/kube/order"
	"github.com/skerry-edge/skerry/cluster/kube/vnode"
)

// Virtual is what it takes to make devices nodes. All fields but Address and Host are set.
type Virtual struct {
	Devices   vnode.Devices
	Documents vnode.Documents
	Inside    kubelet.Inside
	Gauges    kubelet.Gauges
	// HostNetworkImplied gives the device's network also to pods that do not say hostNetwork.
	HostNetworkImplied bool
	// Via is how the API server reaches the kubelet API: auto, k3s or direct.
	Via        string
	Address    string // of this machine, as the API server reaches it; empty: Advertised, or by the tunnel a name of the cluster's
	Advertised string
	Host       string // to listen on; empty: all addresses
	FirstPort  int
	Ports      int
	MaxNodes   int // devices that become nodes; 0: as many as leave room for machines
}

// noRoom says why a device has no Node although it runs workloads.
func (b *Bridge) noRoom(node string) string {
	b.mu.Lock()
	faults := b.faults
	b.mu.Unlock()
	if faults == nil {
		return ""
	}
	return faults.NoRoom(node)
}

// cached are the objects that are kept in memory, and what of them.
func (b *Bridge) cached() map[client.Object]cache.ByObject {
	by := map[client.Object]cache.ByObject{&v1.MLSysOpsNode{}: {Transform: inventory.Strip}, &v1alpha1.NodeCommand{}: {Transform: order.Strip},
		&v1alpha1.Rollout{}: {Transform: cache.TransformStripManagedFields()}}
	if b.cfg.Virtual != nil {
		ours := labels.SelectorFromSet(labels.Set{bridge.ManagedBy: bridge.Manager})
		by[&corev1.Node{}] = cache.ByObject{Label: ours, Transform: cache.TransformStripManagedFields()}
		by[&corev1.Pod{}] = cache.ByObject{Namespaces: map[string]cache.Config{cache.AllNamespaces: {}}, Transform: vnode.Strip}
	}
	return by
}

// addVirtual has devices be nodes. leaderOnly: by who holds the lease; else each replica does it for its own.
func (l *life) addVirtual(ctx context.Context, cfg *rest.Config, leaderOnly bool) error {
	v := l.cfg.Virtual
	if v == nil {
		return nil
	}
	clients, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	lacks, err := missing(ctx, clients, nodeRights)
	l.lack(lacks)
	if err != nil {
		return err
	}
	if len(lacks) > 0 {
		return l.manager.Add(unelected(func(ctx context.Context) error { return awaitRights(ctx, clients) }))
	}
	version, err := clients.Discovery().ServerVersion()
	if err != nil {
		return fmt.Errorf("ask for the version: %w", err)
	}
	ports := kubelet.NewPorts(v.Host, v.FirstPort, v.Ports)
	at, err := l.reachable(ctx, clients, version.GitVersion)
	if err != nil {
		return err
	}
	place := func(node string, was int32) bridge.Place {
		return bridge.Place{Cluster: l.cfg.Cluster, Addresses: []corev1.NodeAddress{at.address}, Port: int32(ports.Take(node, int(was))), Version: version.GitVersion}
	}
	serving := certs.New(certs.Want{Name: at.address.Address, Signer: certificatesv1.KubeletServingSignerName, Hosts: []string{at.address.Address}, Usage: certificatesv1.UsageServerAuth},
		clients.CertificatesV1().CertificateSigningRequests(), l.cfg.Now)
	at.serving = serving
	roots := func(ctx context.Context) (*x509.CertPool, error) { return clientRoots(ctx, clients) }
	server := &kubelet.Server{Pods: pods{l.manager.GetClient(), l.manager.GetAPIReader(), ports}, Inside: v.Inside, Gauges: v.Gauges, Log: l.cfg.Log,
		Access: &kubelet.Access{Tokens: clients.AuthenticationV1().TokenReviews(), Reviews: clients.AuthorizationV1().SubjectAccessReviews(), Roots: roots, Now: l.cfg.Now}}
	serve := func(ctx context.Context) error {
		return ports.Serve(ctx, server.Handler(), &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert, GetCertificate: serving.Serving,
			NextProtos: []string{"http/1.1"}}, func(err error) { l.cfg.Log.Warn("kubelet API does not answer", agent.KeyErr, err) })
	}
	if at.via == viaK3s {
		if err := l.addTunnel(cfg, clients, ports, at, leaderOnly); err != nil {
			return err
		}
	}
	faults, err := vnode.Add(ctx, l.manager, vnode.Config{Cluster: l.cfg.Cluster, Elected: leaderOnly, Devices: v.Devices, Documents: v.Documents, Place: place,
		HostNetworkImplied: v.HostNetworkImplied, Released: ports.Give, MaxNodes: v.MaxNodes, NoRoom: l.nodes.Wake, Log: l.cfg.Log, Now: l.cfg.Now})
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.reach, l.faults = at, faults
	l.mu.Unlock()
	return errors.Join(l.add(leaderOnly, func(ctx context.Context) error {
		return l.keepCertificate(ctx, serving, &at.mute, "kubelet API")
	}), l.add(leaderOnly, serve))
}

// clientRoots are the CAs of client certificates that the API server tells everybody who may read it; nil when it tells none.
func clientRoots(ctx context.Context, clients kubernetes.Interface) (*x509.CertPool, error) {
	m, err := clients.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "extension-apiserver-authentication", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(m.Data["client-ca-file"])) {
		return nil, nil
	}
	return pool, nil
}

// pods answers from the cache, and past it only for what that has not whole.
type pods struct {
	client client.Client
	reader client.Reader
	*kubelet.Ports
}

func (p pods) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	err := p.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, pod)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	if err != nil || pod.Spec.NodeName == "" || p.client.Get(ctx, client.ObjectKey{Name: pod.Spec.NodeName}, &corev1.Node{}) != nil {
		return nil, nil // not there, or not one of ours
	}
	return pod, vnode.Whole(ctx, p.reader, pod)
}

func (p pods) On(ctx context.Context, node string) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := p.client.List(ctx, &list, client.MatchingFields{vnode.ByNode: node})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		if err := vnode.Whole(ctx, p.reader, &list.Items[i]); client.IgnoreNotFound(err) != nil {
			return nil, err
		}
	}
	return list.Items, nil
}
