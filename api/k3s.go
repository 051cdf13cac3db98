package api

import (
	"errors"
	"fmt"
	"net/url"
)

// The verbs by which a device becomes a k3s agent, and none any more.
const (
	VerbK3sJoin  = "k3s.join"
	VerbK3sLeave = "k3s.leave"
)

// K3sJoin is the arguments of k3s.join as a node gets them. Sealed holds the token: the file token of the volume k3s.
type K3sJoin struct {
	Server string  `json:"server"` // https URL
	Name   string  `json:"name"`   // of the Node
	Sealed *Sealed `json:"sealed"`
}

// Validate checks j as it arrives at a node.
func (j *K3sJoin) Validate() error {
	u, err := url.Parse(j.Server)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return fmt.Errorf("server %.80q: wanted https://host:port", j.Server)
	}
	if !ValidDNSName(j.Name) {
		return fmt.Errorf("name %.80q: wanted a DNS name", j.Name)
	}
	if j.Sealed == nil {
		return errors.New("sealed is missing: the cluster agent adds it")
	}
	return nil
}
