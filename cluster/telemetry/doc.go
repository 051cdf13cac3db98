// Package telemetry is the cluster agent's memory of numbers: it stores what nodes report in an embedded Prometheus
// TSDB, answers PromQL on Prometheus' own HTTP paths, and copies everything on to remote-write receivers.
//
// A batch is in the write-ahead log when Append returns, so a killed process loses nothing; it is on the disk when
// SyncedTo has passed its position, so a power cut loses nothing that was acknowledged end to end.
package telemetry
