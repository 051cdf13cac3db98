// Package vnode makes devices that run workloads nodes of a cluster. One reconciler per device compares everything at once: the
// device, its Node, the pods that are bound to it, the desired document and what the device reported. What each should be is
// decided in cluster/bridge and in plan; here it is read and written.
//
// An API server that is away changes nothing on the devices: the desired documents stay what they were. A device that is away
// changes nothing in the cluster but its conditions, its taint and its Lease, which is renewed only while the device is there.
package vnode
