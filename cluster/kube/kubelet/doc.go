// Package kubelet serves the API of a kubelet for devices: logs, exec, attach, port-forward, pods and metrics, over the one MQTT link
// that each device has. Callers prove who they are and what they may as with a kubelet: by a client certificate or a token that the
// API server knows (TokenReview), and its SubjectAccessReview.
//
// All virtual nodes share one host name (see docs/k3s.md), so a pod is found by its name; what concerns a node as a whole is found by
// the port that the caller dialled, of which each virtual node has its own.
package kubelet
