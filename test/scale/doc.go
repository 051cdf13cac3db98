// Package scale measures one cluster agent, held to one core and a fixed amount of memory, with thousands of simulated
// node agents on another core: a steady load, a storm after kill -9 with and without lost packets, and how everything
// grows with the number of nodes. It is the body of skerry-scale. docs/performance/scale.md says what to run.
package scale
