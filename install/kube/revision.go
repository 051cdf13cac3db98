package kube

// Revision numbers the CRDs of this build. It grows with every change of a file under crd (a test holds it to their digest):
// a cluster agent leaves CRDs of a higher one alone, for a newer agent installed them.
const Revision = 2

// AnnotationRevision is where an installed CRD carries the Revision that it is of, and AnnotationDigest that of its file.
const (
	AnnotationRevision = "edge.mlsysops.eu/crd-revision"
	AnnotationDigest   = "edge.mlsysops.eu/crd-digest"
)
