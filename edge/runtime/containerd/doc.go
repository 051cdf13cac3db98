//go:build !lite

// Package containerd runs containers with containerd, in its namespace skerry. Images are those of the node's own store, whose
// unpacked roots lie below an overlay of the container: containerd holds no copy of them. Each container has a folder as those of
// package process have, which says what has begun and how it ended, and a process that keeps its streams: containerd's shim and it
// outlive the agent.
//
// It speaks containerd's protocol by the types that containerd publishes for it, not by its client: that would be another 7 MiB.
package containerd
