// Package workload runs what a node's desired document wants: it compares the workloads that are wanted with the containers
// that the runtimes have, and starts, stops and restarts until both agree. What to do is decided by a pure function;
// runtimes do it. It needs no link: a node that boots alone runs what it was last told.
package workload
