// Package kube holds what is installed into Kubernetes, as files and embedded: the CRDs of mlsysops.eu/v1 and
// edge.mlsysops.eu/v1alpha1, and the rights of the cluster agent. The CRDs are generated from package api/v1 and
// api/edge/v1alpha1 (make generate); without an agent they are installed by kubectl apply -f install/kube/crd. The rest of the directory is
// the cluster agent itself, for kubectl apply -k install/kube.
package kube

import (
	"embed"
	"fmt"
)

//go:embed crd/*.yaml
var crds embed.FS

// CRD is one CustomResourceDefinition of apiextensions.k8s.io/v1.
type CRD struct {
	File string // name of its file, <group>_<plural>.yaml
	YAML []byte
}

// CRDs returns every CRD, in the order of their files' names. The caller owns what it gets.
func CRDs() ([]CRD, error) {
	entries, err := crds.ReadDir("crd")
	if err != nil {
		return nil, fmt.Errorf("list embedded CRDs: %w", err)
	}
	out := make([]CRD, 0, len(entries))
	for _, e := range entries {
		text, err := crds.ReadFile("crd/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("read embedded CRD: %w", err)
		}
		out = append(out, CRD{File: e.Name(), YAML: text})
	}
	return out, nil
}
