// Package shim is the supervisor of one container. It is a process of its own, so that a container goes on while the agent is
// restarted, updated or killed; and it is the first process of the container, in its namespaces and in its root:
//
//   - When it is killed, the kernel ends everything in the container with it. Nothing runs on unseen.
//   - It reaps what the program leaves behind.
//   - It starts commands inside by itself; nobody has to enter namespaces.
//   - There is one process more for each container, not two.
//
// The container cannot reach it: it has all capabilities and is not dumpable, the kernel keeps signals from the first process of
// a namespace that it does not handle, and its files were opened before it changed its root.
package shim
