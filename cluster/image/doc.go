// Package image is the cluster agent's cache of container images. Nodes, and whoever speaks the OCI distribution API, ask it for
// what is in any registry; it fetches each thing once, while it already hands it on, keeps it by its digest within a bound, and
// goes on serving what it has when no registry can be reached. An administrator imports archives, so that a site needs no
// registry at all.
//
// Blobs and manifests lie in files named by their SHA-256; what names stand for is in the cluster agent's store. Everything is
// verified before the last of it is handed on: content that is not what its digest says never arrives whole.
package image
