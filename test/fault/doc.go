// Package fault breaks a site of real processes in every way that it knows, by a schedule that a seed decides, and then
// wants everything accounted for. Each host is a network namespace whose one interface is a tun device; a switch in this
// process carries the packets between them, and loses, delays, doubles, reorders or throttles them as faults demand. That
// needs no queueing discipline of the kernel's, so a seed means the same everywhere. docs/testing.md is the manual.
package fault
