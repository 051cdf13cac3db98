package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry-edge/skerry/agent"
)

// right is to do verbs on a resource.
type right struct {
	group, resource, subresource, namespace, name string
	verbs                                         []string
}

// nodeRights are those without which devices cannot be nodes: the ones of the role skerry-virtual-nodes in install/kube/rbac.yaml but
// for secrets, which not every site gives, and events, which nothing depends on.
var nodeRights = []right{
	{resource: "nodes", verbs: []string{"get", "list", "watch", "create", "patch", "delete"}},
	{resource: "nodes", subresource: "status", verbs: []string{"patch"}},
	{resource: "pods", verbs: []string{"get", "list", "watch", "patch", "delete"}},
	{resource: "pods", subresource: "status", verbs: []string{"patch"}},
	{resource: "configmaps", verbs: []string{"get"}},
	{group: "coordination.k8s.io", resource: "leases", namespace: corev1.NamespaceNodeLease, verbs: []string{"create", "update", "patch", "delete"}},
	{group: "certificates.k8s.io", resource: "certificatesigningrequests", verbs: []string{"get", "create", "delete"}},
	{group: "certificates.k8s.io", resource: "certificatesigningrequests", subresource: "approval", verbs: []string{"update"}},
	{group: "certificates.k8s.io", resource: "signers", name: "kubernetes.io/kubelet-serving", verbs: []string{"approve"}},
	{group: "authentication.k8s.io", resource: "tokenreviews", verbs: []string{"create"}},
	{group: "authorization.k8s.io", resource: "subjectaccessreviews", verbs: []string{"create"}},
}

// missing asks which of the rights are not given: one call each, which everybody who is known to the API server may make.
func missing(ctx context.Context, clients kubernetes.Interface, rights []right) ([]string, error) {
	var out []string
	for _, r := range rights {
		for _, verb := range r.verbs {
			review, err := clients.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: r.namespace, Verb: verb,
					Group: r.group, Resource: r.resource, Subresource: r.subresource, Name: r.name}}}, metav1.CreateOptions{})
			if err != nil {
				return nil, fmt.Errorf("ask what it may: %w", err)
			}
			if !review.Status.Allowed {
				out = append(out, strings.TrimSpace(verb+" "+strings.TrimSuffix(r.resource+"/"+r.subresource, "/")+" "+r.name))
			}
		}
	}
	return out, nil
}

// rightsEvery is how often it is looked whether an administrator has given what is missing.
const rightsEvery = time.Minute

// errAnew ends a life for a good reason: the next one can do more.
var errAnew = errors.New("rights were given")

// awaitRights returns errAnew when the devices can be nodes, or ctx ends.
func awaitRights(ctx context.Context, clients kubernetes.Interface) error {
	for agent.Wait(ctx, agent.Jitter(rightsEvery, 0.1)) {
		if lacks, err := missing(ctx, clients, nodeRights); err == nil && len(lacks) == 0 {
			return errAnew
		}
	}
	return nil
}

// lack notes which rights are missing.
func (b *Bridge) lack(rights []string) {
	b.mu.Lock()
	first := len(b.lacks) == 0 && len(rights) > 0
	b.lacks = rights
	b.mu.Unlock()
	if first {
		b.cfg.Log.Warn("devices do not become nodes: rights are missing", agent.KeyReason, strings.Join(rights, ", "))
	}
}
