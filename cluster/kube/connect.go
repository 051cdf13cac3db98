package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api/edge/v1alpha1"
	v1 "github.com/skerry-edge/skerry/api/v1"
	"github.com/skerry-edge/skerry/cluster/kube/apply"
	"github.com/skerry-edge/skerry/cluster/kube/crd"
)

// The rates of requests, averaged and at once. The inventory of a large fleet that comes online together is written over
// minutes, so that commands and everybody else's requests go before.
const (
	inventoryRate, inventoryBurst = 40, 80
	orderRate, orderBurst         = 100, 200
)

// config reads where the API server is. It is read for each life, for certificates in it are renewed.
func (b *Bridge) config() (*rest.Config, error) {
	if b.cfg.Kubeconfig == "" {
		cfg, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("use the service account of this pod: %w; elsewhere set kube.kubeconfig", err)
		}
		return b.tune(cfg), nil
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", b.cfg.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	return b.tune(cfg), nil
}

func (b *Bridge) tune(cfg *rest.Config) *rest.Config {
	cfg.UserAgent = "skerry-cluster/" + agent.Version()
	cfg.WarningHandler = rest.NoWarnings{}
	cfg.QPS, cfg.Burst = orderRate, orderBurst
	return cfg
}

// types are the kinds that are read and written, and where they are found: to ask the API server would take a round for
// each group.
func types() (*runtime.Scheme, meta.RESTMapper, error) {
	s := runtime.NewScheme()
	if err := errors.Join(v1.AddToScheme(s), v1alpha1.AddToScheme(s), corev1.AddToScheme(s), coordinationv1.AddToScheme(s)); err != nil {
		return nil, nil, err
	}
	m := meta.NewDefaultRESTMapper(nil)
	for _, kind := range []string{"MLSysOpsNode", "MLSysOpsCluster"} { // a list asks for its own kind
		m.AddSpecific(v1.GroupVersion().WithKind(kind+"List"), v1.GroupVersion().WithResource(strings.ToLower(kind)+"s"),
			v1.GroupVersion().WithResource(strings.ToLower(kind)), meta.RESTScopeNamespace)
	}
	for _, kind := range []string{"NodeCommand", "Rollout"} {
		m.AddSpecific(v1alpha1.GroupVersion().WithKind(kind+"List"), v1alpha1.GroupVersion().WithResource(strings.ToLower(kind)+"s"),
			v1alpha1.GroupVersion().WithResource(strings.ToLower(kind)), meta.RESTScopeNamespace)
		m.Add(v1alpha1.GroupVersion().WithKind(kind), meta.RESTScopeNamespace)
	}
	for _, kind := range []string{"MLSysOpsNode", "MLSysOpsCluster"} {
		m.Add(v1.GroupVersion().WithKind(kind), meta.RESTScopeNamespace)
	}
	m.Add(schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}, meta.RESTScopeRoot)
	core := corev1.SchemeGroupVersion
	m.Add(core.WithKind("Node"), meta.RESTScopeRoot)
	for _, kind := range []string{"Pod", "Secret", "ConfigMap"} {
		m.Add(core.WithKind(kind), meta.RESTScopeNamespace)
	}
	m.AddSpecific(core.WithKind("PodList"), core.WithResource("pods"), core.WithResource("pod"), meta.RESTScopeNamespace)
	m.AddSpecific(core.WithKind("NodeList"), core.WithResource("nodes"), core.WithResource("node"), meta.RESTScopeRoot)
	m.Add(coordinationv1.SchemeGroupVersion.WithKind("Lease"), meta.RESTScopeNamespace)
	m.Add(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}, meta.RESTScopeRoot)
	return s, m, nil
}

// prepareWithin bounds the questions before the work begins.
const prepareWithin = time.Minute

// prepare sees to the namespace and the CRDs.
func (b *Bridge) prepare(ctx context.Context, c client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, prepareWithin)
	defer cancel()
	ns := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}}
	err := c.Get(ctx, client.ObjectKey{Name: b.cfg.Namespace}, ns)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("namespace %s is not there: kubectl create namespace %s, or kubectl apply -f install/kube/rbac.yaml", b.cfg.Namespace, b.cfg.Namespace)
	case err != nil:
		return fmt.Errorf("look for namespace %s: %w", b.cfg.Namespace, err)
	case ns.DeletionTimestamp != nil:
		return fmt.Errorf("namespace %s is being deleted", b.cfg.Namespace)
	}
	if !b.cfg.InstallCRD {
		return nil
	}
	for {
		results, err := crd.Apply(ctx, c, apply.Owner)
		if err != nil {
			return fmt.Errorf("%w; they can be installed by an administrator as well: kubectl apply -f install/kube/crd, and kube.install_crds: false", err)
		}
		waiting := ""
		for _, r := range results {
			if r.Verdict != crd.Keep {
				b.cfg.Log.Info("CRD", agent.KeyPath, r.Name, agent.KeyState, string(r.Verdict))
			}
			if !r.Established {
				waiting = r.Name
			}
		}
		if waiting == "" {
			return nil
		}
		if !agent.Wait(ctx, 200*time.Millisecond) {
			return fmt.Errorf("CRD %s: the API server does not serve it", waiting)
		}
	}
}
