// Package probe measures the machine a node agent runs on. Every probe is a triple: read a small kernel file into a
// buffer that is kept, parse it without allocating, emit values under series names that were built once. Names, units
// and labels are those of Prometheus' node_exporter, probes are named like its collectors.
//
// gopsutil does the work where it is cheap (statfs, the description of the host); the rest is read directly because
// gopsutil would walk every process (stat), open udev's database (disks), allocate a string per line (meminfo, cpu,
// network) or panic on a damaged file (loadavg).
package probe
