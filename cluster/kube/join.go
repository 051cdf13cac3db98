package kube

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skerry-edge/skerry/cluster/bridge"
	"github.com/skerry-edge/skerry/cluster/kube/tunnel"
)

// JoinRequest asks for what a machine needs to join k3s.
type JoinRequest struct {
	Server string // https URL of a server; empty: one that the cluster knows
	Until  time.Time
	For    string // who, for people
}

// Join is where, and with which token.
type Join struct{ Server, Token string }

const (
	joinWithin = 15 * time.Second
	joinGroup  = "system:bootstrappers:k3s:default-node-token" // as k3s token create has it
)

// Join makes a bootstrap token, which the cluster forgets by itself when its time is over.
func (b *Bridge) Join(ctx context.Context, r JoinRequest) (Join, error) {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	clients, cfg, err := b.clients()
	if err != nil {
		return Join{}, err
	}
	server := r.Server
	if server == "" {
		if server, err = b.serverFor(ctx, clients, cfg); err != nil {
			return Join{}, err
		}
	}
	bundle, err := clients.Discovery().RESTClient().Get().AbsPath("/cacerts").DoRaw(ctx)
	if err != nil {
		return Join{}, fmt.Errorf("get the CA bundle of k3s (is it k3s?): %w", err)
	}
	id, secret := strings.ToLower(rand.Text()[:6]), strings.ToLower(rand.Text()[:16]) // [a-z0-9], as both have to be
	_, err = clients.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id},
		Type: corev1.SecretTypeBootstrapToken, StringData: map[string]string{"token-id": id, "token-secret": secret,
			"expiration": r.Until.UTC().Format(time.RFC3339), "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
			"auth-extra-groups": joinGroup, "description": "Skerry, for device " + r.For}}, metav1.CreateOptions{})
	if err != nil {
		return Join{}, fmt.Errorf("create bootstrap token: %w", err)
	}
	sum := sha256.Sum256(bundle)
	return Join{Server: server, Token: "K10" + hex.EncodeToString(sum[:]) + "::" + id + "." + secret}, nil
}

// serverFor is a server as other machines reach it.
func (b *Bridge) serverFor(ctx context.Context, clients kubernetes.Interface, cfg *rest.Config) (string, error) {
	at, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return "", err
	}
	first := hostPort(at)
	servers := &tunnel.Servers{Slices: clients.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault), First: first, Log: b.cfg.Log}
	if all, err := servers.Now(ctx); err == nil {
		first = all[0]
	}
	host, _, _ := net.SplitHostPort(first)
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return "", fmt.Errorf("%s is this machine alone; say args.server, the URL of a k3s server as the device reaches it", cmp.Or(host, first))
	}
	return (&url.URL{Scheme: "https", Host: first}).String(), nil
}

// joinedBy is the label that k3s.join gives a machine's Node; edge/k3s sets it.
const joinedBy = "mlsysops.eu/joined-by"

// Forget deletes a machine's Node and what k3s knows it by, so that a machine of that name can join anew.
func (b *Bridge) Forget(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	clients, _, err := b.clients()
	if err != nil {
		return err
	}
	have, err := clients.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("look for node %s: %w", node, err)
	}
	if err == nil && have.Labels[joinedBy] != bridge.Manager {
		return fmt.Errorf("node %s is there and was not joined by Skerry (label %s=%s): it is left alone", node, joinedBy, bridge.Manager)
	}
	err = nil
	for what, remove := range map[string]func() error{
		"node " + node: func() error { return clients.CoreV1().Nodes().Delete(ctx, node, metav1.DeleteOptions{}) },
		"node password of " + node: func() error {
			return clients.CoreV1().Secrets(metav1.NamespaceSystem).Delete(ctx, node+".node-password.k3s", metav1.DeleteOptions{})
		},
	} {
		if e := remove(); e != nil && !apierrors.IsNotFound(e) {
			err = errors.Join(err, fmt.Errorf("delete %s: %w", what, e))
		}
	}
	return err
}

// clients are for what is asked for by people, with or without a life.
func (b *Bridge) clients() (kubernetes.Interface, *rest.Config, error) {
	cfg, err := b.config()
	if err != nil {
		return nil, nil, err
	}
	clients, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("connect: %w", err)
	}
	return clients, cfg, nil
}
