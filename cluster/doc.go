// Package cluster is the cluster agent: its command line and the wiring of its parts. What a message means is decided in
// registry, command, enroll, access and telemetry; here it is handed to them, and their answers are sent.
package cluster
