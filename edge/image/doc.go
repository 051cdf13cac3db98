// Package image keeps the images of a node: it fetches them from the cluster agent, checks them, and unpacks them for the
// runtimes.
//
// All lies below one directory: refs.json (which digest a reference was last resolved to), blobs (manifests, configurations
// and layers by their SHA-256), roots (unpacked images by the digest of their manifest) and tmp. What is in blobs and roots is
// whole and verified: it was made in tmp, synced, and renamed. What is left in tmp after a crash is either resumed (parts of
// blobs) or removed at the next start.
//
// Nothing is believed but digests. The manifest is what the reference's digest, or the cluster agent's word on a tag, says;
// the configuration and the layers are what the manifest says; the content of a layer is what the configuration says.
package image
