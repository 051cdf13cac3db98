package kubelet

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
)

// How long an answer of the API server counts: a kubelet's own times.
const (
	rootsFor   = time.Minute
	tokenFor   = 2 * time.Minute
	allowedFor = 5 * time.Minute
	deniedFor  = 30 * time.Second
	maxAnswers = 4096 // of either kind; beyond, all are asked for again
	askWithin  = 10 * time.Second
)

// Access asks the API server who a caller is and what it may. Safe for concurrent use.
type Access struct {
	Tokens  authenticationclient.TokenReviewInterface
	Reviews authorizationclient.SubjectAccessReviewInterface
	// Roots reads the CAs of client certificates, which change when a cluster's are renewed; none: no certificate is taken.
	Roots func(ctx context.Context) (*x509.CertPool, error)
	Now   func() time.Time

	mu      sync.Mutex
	roots   answer[*x509.CertPool]
	who     map[[32]byte]answer[*authenticationv1.UserInfo]
	allowed map[string]answer[string]
}

// answer is one that counts for a while. Its value is nil, or a reason, for no.
type answer[T any] struct {
	value T
	until time.Time
}

// errWho is for callers who did not say who they are.
var errWho = errors.New("neither a client certificate that is trusted nor a token that the API server knows")

// identify tells who sent a request.
func (a *Access) identify(req *http.Request) (*authenticationv1.UserInfo, error) {
	unread := errWho
	if req.TLS != nil && len(req.TLS.PeerCertificates) > 0 {
		roots, err := a.trusted(req.Context())
		if err != nil {
			unread = err
		} else if who := byCertificate(req.TLS.PeerCertificates, roots, a.Now()); who != nil {
			return who, nil
		}
	}
	token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if !ok || token == "" {
		return nil, unread
	}
	return a.review(req.Context(), token)
}

// byCertificate is the name in a chain of certificates that leads to roots; nil without one.
func byCertificate(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) *authenticationv1.UserInfo {
	if roots == nil { // to Verify that would be the machine's
		return nil
	}
	leaf, between := chain[0], x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil || leaf.Subject.CommonName == "" {
		return nil
	}
	return &authenticationv1.UserInfo{Username: leaf.Subject.CommonName, Groups: append(leaf.Subject.Organization, "system:authenticated")}
}

// trusted are the roots of client certificates, at most rootsFor old; those before when they cannot be read now.
func (a *Access) trusted(ctx context.Context) (*x509.CertPool, error) {
	a.mu.Lock()
	known := a.roots
	a.mu.Unlock()
	if a.Now().Before(known.until) {
		return known.value, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	roots, err := a.Roots(ctx)
	if err != nil && known.value == nil {
		return nil, fmt.Errorf("read the CAs of client certificates: %w", err)
	}
	if err != nil {
		roots = known.value
	}
	a.mu.Lock()
	a.roots = answer[*x509.CertPool]{roots, a.Now().Add(rootsFor)}
	a.mu.Unlock()
	return roots, nil
}

func (a *Access) review(ctx context.Context, token string) (*authenticationv1.UserInfo, error) {
	key := sha256.Sum256([]byte(token))
	a.mu.Lock()
	known, ok := a.who[key]
	a.mu.Unlock()
	if !ok || !a.Now().Before(known.until) {
		ctx, cancel := context.WithTimeout(ctx, askWithin)
		defer cancel()
		r, err := a.Tokens.Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
		if err != nil {
			return nil, fmt.Errorf("review token: %w", err)
		}
		known = answer[*authenticationv1.UserInfo]{until: a.Now().Add(deniedFor)}
		if r.Status.Authenticated {
			known = answer[*authenticationv1.UserInfo]{&r.Status.User, a.Now().Add(tokenFor)}
		}
		a.mu.Lock()
		if a.who == nil || len(a.who) >= maxAnswers {
			a.who = map[[32]byte]answer[*authenticationv1.UserInfo]{}
		}
		a.who[key] = known
		a.mu.Unlock()
	}
	if known.value == nil {
		return nil, errWho
	}
	return known.value, nil
}

// permit returns nil when who may do verb on a subresource of a node. The error tells why not.
func (a *Access) permit(ctx context.Context, who *authenticationv1.UserInfo, verb, node, subresource string) error {
	key := strings.Join([]string{who.Username, strings.Join(who.Groups, ","), verb, node, subresource}, "\x00")
	a.mu.Lock()
	known, ok := a.allowed[key]
	a.mu.Unlock()
	if !ok || !a.Now().Before(known.until) {
		extra := map[string]authorizationv1.ExtraValue{}
		for k, v := range who.Extra {
			extra[k] = authorizationv1.ExtraValue(v)
		}
		ctx, cancel := context.WithTimeout(ctx, askWithin)
		defer cancel()
		r, err := a.Reviews.Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: who.Username, UID: who.UID,
			Groups: who.Groups, Extra: extra, ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Version: "v1", Resource: "nodes", Name: node,
				Subresource: subresource}}}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("review access: %w", err)
		}
		known = answer[string]{"", a.Now().Add(allowedFor)}
		if !r.Status.Allowed {
			known = answer[string]{fmt.Sprintf("user %s may not %s nodes/%s of node %s", who.Username, verb, subresource, node), a.Now().Add(deniedFor)}
		}
		a.mu.Lock()
		if a.allowed == nil || len(a.allowed) >= maxAnswers {
			a.allowed = map[string]answer[string]{}
		}
		a.allowed[key] = known
		a.mu.Unlock()
	}
	if known.value != "" {
		return errors.New(known.value)
	}
	return nil
}

// verbOf is what a method is to the API server, as a kubelet maps them.
func verbOf(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	default:
		return "get"
	}
}
