package cluster

import (
	"strings"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/install/kube"
)

// What --secrets-in takes beside names.
const (
	secretsAll  = "all"
	secretsNone = "none"
)

// rbac prints the rights of a cluster agent, whatever its configuration is.
func (d *Door) rbac(join bool, secretsIn string) int {
	rights := kube.Rights{Join: join, Secrets: secretsIn == secretsAll}
	if !rights.Secrets && secretsIn != secretsNone {
		for name := range strings.SplitSeq(secretsIn, ",") {
			if !api.ValidDNSLabel(name) {
				d.printf(d.Err, "skerry-cluster: --secrets-in %q: wanted names of namespaces with commas between them, all or none\n", secretsIn)
				return ExitConfig
			}
			rights.SecretsIn = append(rights.SecretsIn, name)
		}
	}
	d.printf(d.Out, "%s", kube.RBAC(rights))
	return ExitOK
}
