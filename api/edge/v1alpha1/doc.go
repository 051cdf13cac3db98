// Package v1alpha1 holds the Kubernetes types of group edge.mlsysops.eu, version v1alpha1: what the framework has no kind
// for. A NodeCommand is a command to one node, the same thing that REST, the command line and MQTT order; its phases are
// those of api.Phase, and the schema lets them go no other way.
//
// The schemas in install/kube/crd are generated from here: make generate.
//
// +groupName=edge.mlsysops.eu
// +kubebuilder:object:generate=true
package v1alpha1
