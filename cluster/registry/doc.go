// Package registry is what the cluster agent knows of its nodes: identity, self-description, presence and how it was
// concluded, labels, the desired document, and the log of events. It is served from memory and durable in bbolt.
//
// Presence is decided by a pure function (Decide) from facts and the time, and decided anew at every fact and at the time
// the last decision named. Three rules shape it:
//
//   - Epochs only grow. What belongs to an older session than the newest known one (a late last will, a stale retained
//     message) is counted and ignored. Within a session a last will and a goodbye are the last word.
//   - Absence is measured in attended time: the time for which this cluster agent was up and in touch with the broker.
//     A node is never lost because the cluster agent was away or its broker down.
//   - After a restart of the cluster agent the nodes that were online are disconnected, waited for, for a grace, before
//     anybody is told.
//
// What a message changes is on disk when its method returns nil: only then may it be acknowledged. LastSeen alone is
// written lazily, at most once a minute. A write that fails leaves the node marked; the next write, or Run, repeats it.
package registry
