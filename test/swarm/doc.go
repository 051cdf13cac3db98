// Package swarm simulates many node agents in one process, from the join string to the last acknowledgement: the links,
// codecs, outboxes and command engines are those of the node agent, the probes are arithmetic. Every sample's value says
// which node, series and row it is, so that package account can look for each in the store. It serves tests, measurements
// and those who size a site of their own (docs/sizing.md).
package swarm
