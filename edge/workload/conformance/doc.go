// Package conformance is what every runtime of containers has to do as the seam workload.Runtime says, as tests, and a runtime
// without containers for the tests of those who use one. Only tests import it.
package conformance
