package api

import (
	"errors"
	"fmt"
)

// ReplicaState is where one of several cluster agents on one broker stands.
type ReplicaState string

// The states of a replica. Lost is only ever a last will.
const (
	ReplicaLive    ReplicaState = "live"
	ReplicaLeaving ReplicaState = "leaving"
	ReplicaLost    ReplicaState = "lost"
)

// Replica is the retained presence of one of several cluster agents that share a broker. Session grows with each of its
// connections and Beat within one, so that what comes late is told from what is new; the last will carries the session it
// belongs to. URL is where its REST is.
type Replica struct {
	Cluster string       `json:"cluster"`
	Replica string       `json:"replica"`
	Session uint64       `json:"session"`
	Beat    uint64       `json:"beat"`
	State   ReplicaState `json:"state"`
	At      Millis       `json:"at"`
	URL     string       `json:"url,omitempty"`
}

// Validate checks r as it arrives at another replica.
func (r *Replica) Validate() error {
	switch r.State {
	case ReplicaLive, ReplicaLeaving, ReplicaLost:
	default:
		return fmt.Errorf("state %q: wanted live, leaving or lost", r.State)
	}
	if r.Session == 0 {
		return errors.New("session is 0; the first is 1")
	}
	return errors.Join(ValidID("cluster", r.Cluster), ValidID("replica", r.Replica), maxLen("url", r.URL, MaxReasonBytes))
}

// maxAdmissionCertificates bounds the certificates of an admission.
const maxAdmissionCertificates = 64

// Admission is what every replica has to know of a node's enrolment, retained under the node's id: whose key it is, and
// which certificates are good. Two of them are joined; Revision tells whether the broker keeps the newest. Removed, when it
// is not 0, is a tombstone: the node is nobody's any more, and its certificates are revoked.
type Admission struct {
	Node         string            `json:"node"`
	Cluster      string            `json:"cluster"`
	Revision     uint64            `json:"revision"`
	KeySHA256    string            `json:"keySha256"`
	Enrolled     Millis            `json:"enrolled"`             // the first key of this id
	Admitted     Millis            `json:"admitted"`             // the present key
	Labels       map[string]string `json:"labels,omitempty"`     // of its token
	UserLabels   map[string]string `json:"userLabels,omitempty"` // that people gave it
	Labelled     Millis            `json:"labelled,omitempty"`   // when they did
	Certificates []Issued          `json:"certificates,omitempty"`
	Removed      Millis            `json:"removed,omitempty"`
	By           string            `json:"by,omitempty"` // who removed it
}

// Issued is a certificate by its serial number, lower-case hex.
type Issued struct {
	Serial   string `json:"serial"`
	SHA256   string `json:"sha256"`
	Issued   Millis `json:"issued"`
	NotAfter Millis `json:"notAfter"`
}

// Validate checks a as it arrives at another replica.
func (a *Admission) Validate() error {
	if a.Revision == 0 {
		return errors.New("revision is 0; the first is 1")
	}
	if a.KeySHA256 == "" {
		return errors.New("keySha256 is empty")
	}
	if len(a.Certificates) > maxAdmissionCertificates {
		return fmt.Errorf("%d certificates; wanted at most %d", len(a.Certificates), maxAdmissionCertificates)
	}
	return errors.Join(ValidID("cluster", a.Cluster), ValidID("node", a.Node), maxLen("by", a.By, MaxLabelBytes), validLabels("userLabels", a.UserLabels))
}

// Claim is which replica acts for a node, and by which right: of two claims the greater one counts, by term and then by
// owner. The zero value is no claim, as of a cluster agent that is the only one.
type Claim struct {
	Term  uint64 `json:"term,omitempty"`
	Owner string `json:"owner,omitempty"`
}

// maxTerm bounds the term of a claim far above what hand-overs come to: whoever follows one has to find a greater one.
const maxTerm = 1 << 53

// Validate checks c, which may be nil: there is none.
func (c *Claim) Validate() error {
	if c == nil {
		return nil
	}
	if c.Term == 0 || c.Term > maxTerm {
		return fmt.Errorf("claim has term %d; wanted 1 to %d", c.Term, uint64(maxTerm))
	}
	return ValidID("claim.owner", c.Owner)
}

// Before reports whether d supersedes c.
func (c Claim) Before(d Claim) bool { return c.Term < d.Term || c.Term == d.Term && c.Owner < d.Owner }

// Owner is where to ask for a node that another replica acts for.
type Owner struct {
	Replica string `json:"replica"`
	URL     string `json:"url,omitempty"`
	Here    bool   `json:"here"` // it is the one that answers
}
