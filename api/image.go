package api

// Image is one that the cluster agent keeps for its nodes, by the name under which they ask for it.
type Image struct {
	Name      string   `json:"name"`                // in full: docker.io/library/busybox:1.36; with @sha256:… when nobody asked by tag
	Digest    string   `json:"digest"`              // of its manifest or index
	Bytes     int64    `json:"bytes"`               // what is here of it
	Complete  bool     `json:"complete"`            // all of it is here, for one platform at least
	Imported  bool     `json:"imported,omitempty"`  // from an archive: no registry has a say in it, and it is never evicted
	Wanted    bool     `json:"wanted,omitempty"`    // a node's desired document names it
	Platforms []string `json:"platforms,omitempty"` // that are here: linux/arm64
	Used      Millis   `json:"used"`                // when somebody last asked for it
}
