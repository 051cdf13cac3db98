package api

// Release is one that the cluster agent keeps for its nodes.
type Release struct {
	Version string   `json:"version"`
	Commit  string   `json:"commit,omitempty"`
	Built   Millis   `json:"built"`
	Files   int      `json:"files"`             // that are here, of those in its manifest
	Bytes   int64    `json:"bytes"`             // of them
	Targets []string `json:"targets"`           // for which a node agent is here: linux-arm64/lite
	Damaged string   `json:"damaged,omitempty"` // why nothing can be taken from it
	// Unchecked is the answer to an import: nobody looked at its signature, since the cluster agent knows no release key. Nodes do.
	Unchecked bool `json:"unchecked,omitempty"`
}
