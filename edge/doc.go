// Package edge is the node agent: its command line and the wiring of its parts. It decides nothing itself; probe,
// outbox, command and identity do their own work and meet here.
package edge
