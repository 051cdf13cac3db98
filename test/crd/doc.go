// Package crd tests the CRDs of install/kube with the API server's own code, in process: schemas, pruning, defaults, rules
// and columns. It is a module of its own, so that neither the API server nor the generator of the CRDs is among the
// dependencies of what is shipped; generate.sh runs that generator.
package crd
