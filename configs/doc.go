// Package configs loads and validates the configuration of the agents. The commented defaults are the documentation:
// edge.yaml and cluster.yaml are embedded, printed by `config --defaults`, and read first; then come the file, the
// overlay that was set remotely, the environment, and flags. Every fault is reported at once.
package configs

import _ "embed"

//go:embed edge.yaml
var edgeDefaults []byte

//go:embed cluster.yaml
var clusterDefaults []byte

// EdgeDefaults returns the commented default configuration of skerry-edge.
func EdgeDefaults() string { return string(edgeDefaults) }

// ClusterDefaults returns the commented default configuration of skerry-cluster.
func ClusterDefaults() string { return string(clusterDefaults) }
