package api

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"strings"
)

// Join is all that a device needs to find and trust its cluster agent, in one string. Endpoints are https URLs of the
// enrolment service, tried in order. CASHA256 is the digest of the cluster CA's DER certificate in lower-case hex.
// Issued serves a device without a clock as a floor.
type Join struct {
	Endpoints []string `json:"e"`
	CASHA256  string   `json:"ca"`
	ID        string   `json:"i"`
	Secret    string   `json:"s"`
	Issued    Millis   `json:"t"`
	Expires   Millis   `json:"x"`
}

// joinPrefix marks a join string and its version. The rest is base64url of the JSON form.
const joinPrefix = "skerry1."

// joinText is what a join string holds: a Join, and a CRC-32 of its JSON form, so that a device can tell a copy that was
// damaged from a token that is not accepted. One without a checksum is taken as it is.
type joinText struct {
	Join
	Checksum string `json:"k,omitempty"`
}

func (j Join) checksum() string {
	raw, err := json.Marshal(j)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE(raw))
}

// maxJoinBytes bounds what ParseJoin looks at.
const maxJoinBytes = 4 << 10

// String returns the join string. It holds a secret.
func (j Join) String() string {
	raw, err := json.Marshal(joinText{j, j.checksum()})
	if err != nil { // strings and integers only
		return ""
	}
	return joinPrefix + base64.RawURLEncoding.EncodeToString(raw)
}

// ParseJoin reads a join string, be it wrapped into lines by what it was copied through. Errors never repeat the secret.
func ParseJoin(s string) (Join, error) {
	s = strings.Join(strings.Fields(s), "")
	if len(s) > maxJoinBytes {
		return Join{}, fmt.Errorf("join string has %d bytes; wanted at most %d, as `skerry token create` prints it", len(s), maxJoinBytes)
	}
	body, ok := strings.CutPrefix(s, joinPrefix)
	if !ok {
		return Join{}, fmt.Errorf("join string %.3q… (%d bytes): wanted one that begins with %q, as `skerry token create` prints it",
			s, len(s), joinPrefix)
	}
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return Join{}, errors.New("join string is damaged: not base64url; was it copied whole?")
	}
	var text joinText
	if err := json.Unmarshal(raw, &text); err != nil {
		return Join{}, errors.New("join string is damaged: its content does not parse; was it copied whole?")
	}
	if text.Checksum != "" && text.Checksum != text.checksum() {
		return Join{}, errors.New("join string is damaged: its checksum does not fit; copy it again")
	}
	return text.Join, text.Join.validate()
}

func (j Join) validate() error {
	if len(j.Endpoints) == 0 || len(j.Endpoints) > 8 {
		return fmt.Errorf("join string has %d endpoints; wanted 1 to 8", len(j.Endpoints))
	}
	for _, e := range j.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("join string endpoint %q: wanted https://host:port", e)
		}
	}
	if raw, err := hex.DecodeString(j.CASHA256); err != nil || len(raw) != 32 {
		return fmt.Errorf("join string CA digest has %d characters; wanted 64 hex digits", len(j.CASHA256))
	}
	if j.Secret == "" || j.Expires <= j.Issued {
		return errors.New("join string lacks its secret or a lifetime; was it copied whole?")
	}
	return ValidID("join string token id", j.ID)
}

// EnrollRequest is the body of POST /v1/enroll. CSR is PEM (PKCS#10) signed by the key that the device made for itself.
// Node is the id that the device would like; empty lets the cluster agent choose. CheckOnly asks whether the enrolment
// would succeed and changes nothing: the reply has status issued and no certificate.
type EnrollRequest struct {
	TokenID   string            `json:"tokenId"`
	Secret    string            `json:"secret"`
	Node      string            `json:"node,omitempty"`
	CSR       string            `json:"csr"`
	Host      Host              `json:"host"`
	Labels    map[string]string `json:"labels,omitempty"`
	CheckOnly bool              `json:"checkOnly,omitempty"`
}

// Validate checks r as it arrives from a device.
func (r *EnrollRequest) Validate() error {
	var err error
	if r.Node != "" {
		err = ValidID("node", r.Node)
	}
	if len(r.CSR) > MaxPEMBytes {
		return fmt.Errorf("csr has %d bytes; wanted at most %d", len(r.CSR), MaxPEMBytes)
	}
	return errors.Join(err, ValidID("tokenId", r.TokenID), validLabels("labels", r.Labels), maxLen("secret", r.Secret, MaxLabelBytes),
		maxLen("host.hostname", r.Host.Hostname, MaxLabelBytes))
}

// EnrollReply answers an enrolment or a renewal. Status is issued, or pending while a person has to approve: the device
// then asks again after RetryAfterMillis with the same body. Certificate and CA are PEM. MQTT are broker URLs in order
// of preference. OrderKeys are the Ed25519 keys that sign orders, newest first.
type EnrollReply struct {
	Status           string      `json:"status"`
	RetryAfterMillis int64       `json:"retryAfterMillis,omitempty"`
	Message          string      `json:"message,omitempty"`
	Node             string      `json:"node,omitempty"`
	Cluster          string      `json:"cluster,omitempty"`
	Root             string      `json:"root,omitempty"` // topic root, skerry/v1
	Certificate      string      `json:"certificate,omitempty"`
	CA               string      `json:"ca,omitempty"`
	MQTT             []string    `json:"mqtt,omitempty"`
	Endpoints        []string    `json:"endpoints,omitempty"` // of the enrolment service, for renewals
	OrderKeys        []Base64URL `json:"orderKeys,omitempty"`
	Time             Millis      `json:"time"`
}

// The values of EnrollReply.Status.
const (
	EnrollIssued  = "issued"
	EnrollPending = "pending"
	EnrollLeft    = "left" // the answer to POST /v1/leave
)

// RenewRequest is the body of POST /v1/renew, sent over TLS with the current (perhaps expired) client certificate. CSR
// must be signed by the same key.
type RenewRequest struct {
	CSR string `json:"csr"`
}

// CodeNodeRemoved is the Code of the Problem that a node is answered which an administrator has removed, or which has left.
const CodeNodeRemoved = "node_removed"

// Problem is the body of every error the HTTP services answer (RFC 9457). Code is stable and made for programs; Cure
// tells a person what to do.
type Problem struct {
	Status int            `json:"status"`
	Title  string         `json:"title"`
	Detail string         `json:"detail,omitempty"`
	Code   string         `json:"code,omitempty"`
	Cure   string         `json:"cure,omitempty"`
	Errors []ProblemError `json:"errors,omitempty"`
}

// ProblemError is one of several faults of a request: Location names the field, as in body.verb.
type ProblemError struct {
	Message  string `json:"message"`
	Location string `json:"location,omitempty"`
	Value    any    `json:"value,omitempty"`
}

// Error makes a Problem usable as an error.
func (p *Problem) Error() string {
	s := p.Title
	if p.Detail != "" {
		s = p.Detail
	}
	for _, e := range p.Errors {
		s += "; " + e.Location
		switch v := e.Value.(type) {
		case string:
			s += fmt.Sprintf(" %.64q", v)
		case float64, bool: // as JSON has it; objects and lists are too long to read
			s += fmt.Sprintf(" %v", v)
		}
		s += ": " + e.Message
	}
	if p.Cure != "" {
		s += "; " + p.Cure
	}
	return s
}

// GetStatus and ContentType let an HTTP framework write a Problem as it is.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457.
func (p *Problem) ContentType(string) string { return "application/problem+json" }
