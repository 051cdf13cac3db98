// Package clock is the time of the cluster agent, by which it stamps, judges deadlines, issues certificates and tells nodes
// the time: that of the machine, as long as it does not contradict what was known before (docs/adr/0012).
package clock
