// Package bridge decides what a device is to Kubernetes and what a pod is to a device. It is pure: objects and facts in,
// objects out; cluster/kube does what it says. Nothing that a pod asks for is passed over silently: what a device cannot do refuses
// the pod (Unsupported), what it does in another way becomes a condition of the pod (a notice).
package bridge
