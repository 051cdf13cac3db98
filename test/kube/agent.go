package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// AgentNamespace is where a cluster agent keeps its objects.
const AgentNamespace = "mlsysops"

// AgentUser is who a cluster agent is to the API server, with the kubeconfig of Admit.
const AgentUser = "system:serviceaccount:" + AgentNamespace + ":skerry-cluster"

// tokenFor is how long a cluster agent's token is good: longer than any test.
const tokenFor = 48 * time.Hour

// Admit gives a cluster agent the rights of install/kube/rbac.yaml, no others, and writes its kubeconfig. server is where it shall
// reach the API server; empty: where everybody does.
func (p *ControlPlane) Admit(ctx context.Context, kubeconfig, server string) error {
	root, err := Root()
	if err != nil {
		return fmt.Errorf("admit the cluster agent: %w", err)
	}
	if _, err := p.Admin.Kubectl(ctx, "apply", "-f", filepath.Join(root, "install", "kube", "rbac.yaml")); err != nil {
		return fmt.Errorf("admit the cluster agent: %w", err)
	}
	if server == "" {
		server = p.URL()
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var token struct{ Status struct{ Token string } }
	err = p.until(ctx, "the service account has a token", func() error {
		ask := map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": map[string]any{"expirationSeconds": int(tokenFor.Seconds())}}
		err := p.Do(ctx, http.MethodPost, "/api/v1/namespaces/"+AgentNamespace+"/serviceaccounts/skerry-cluster/token", ask, &token)
		if err == nil && token.Status.Token == "" {
			err = errors.New("it is empty")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("admit the cluster agent: %w", err)
	}
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{name: x, cluster: {server: %q, certificate-authority: %q}}]\n"+
		"users: [{name: x, user: {token: %q}}]\ncontexts: [{name: x, context: {cluster: x, user: x}}]\n", server, p.papers.servers.file, token.Status.Token)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		return fmt.Errorf("admit the cluster agent: %w", err)
	}
	return nil
}
