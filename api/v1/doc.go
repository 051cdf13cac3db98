// Package v1 holds the Kubernetes types of group mlsysops.eu, version v1: applications, nodes, clusters, continuums and
// datacenters as the MLSysOps framework describes them. The fields lie at the root of the object, there is no spec; so
// each type embeds its description, which is also what a user writes under the kind's name in a description file. For
// fields that metadata has too, say which one: app.AppDescription.Name or app.ObjectMeta.Name.
//
// Spellings are the framework's, also the wrong ones (reduncancy, suported_frameworks, lower_or_qqual): they are what
// existing files and objects have. Numbers and booleans are pointers, for 0 and false are not the same as unset.
// Everything that the framework's own schemas accept is accepted here (docs/adr/0013-kubernetes-types.md).
//
// The schemas in install/kube/crd are generated from here: make generate.
//
// +groupName=mlsysops.eu
// +kubebuilder:object:generate=true
package v1
