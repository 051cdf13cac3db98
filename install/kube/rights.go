package kube

import (
	_ "embed" // for the files
	"strings"
)

//go:embed rbac.yaml
var rbac string

//go:embed rbac-k3s-join.yaml
var rbacJoin string

//go:embed rbac-secrets.yaml
var rbacSecrets string

// Rights are what an administrator gives the cluster agent.
type Rights struct {
	Join      bool     // the verbs k3s.join and k3s.leave
	Secrets   bool     // of every namespace
	SecretsIn []string // of these, where Secrets is false
}

const (
	between    = "---\n"
	readsAll   = "resources: [secrets, configmaps]\n"
	readsFewer = "resources: [configmaps]\n"
)

// RBAC is the namespace, the service account and the roles of the cluster agent: rbac.yaml, and what is asked for beside it.
func RBAC(r Rights) string {
	var b strings.Builder
	if r.Secrets {
		b.WriteString(rbac)
	} else {
		b.WriteString(strings.Replace(rbac, readsAll, readsFewer, 1))
		for _, namespace := range r.SecretsIn {
			b.WriteString(between + strings.ReplaceAll(rbacSecrets, "NAMESPACE", namespace))
		}
	}
	if r.Join {
		b.WriteString(between + rbacJoin)
	}
	return b.String()
}
