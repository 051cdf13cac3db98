// Package process runs containers as processes of this node, without a daemon or a container engine: each has a supervisor of its
// own (package shim), which is started here and found again by the folder that it has.
package process
