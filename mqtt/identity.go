package mqtt

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// IdentityKind is what sort of client somebody is.
type IdentityKind string

// The kinds.
const (
	NodeIdentity     IdentityKind = "node"
	OperatorIdentity IdentityKind = "operator" // a person or a foreign system
	ClusterIdentity  IdentityKind = "cluster"  // the cluster agent itself, on an external broker
)

// Identity is who a client certificate says somebody is. Role is set for operators only. SHA256 (of the DER form,
// lower-case hex) and NotAfter describe the certificate and are empty in an identity that is yet to be certified.
type Identity struct {
	Kind     IdentityKind
	Name     string
	Role     api.Role
	Cluster  string
	SHA256   string
	NotAfter time.Time
}

// organization prefixes the group in a certificate's subject, as Kubernetes does with "system:".
const organization = "skerry:"

// CommonName is the subject's common name: a node's id as it is, anybody else's with the kind before it. A node id has
// no colon, so nobody can pass for a node.
func (i Identity) CommonName() string {
	if i.Kind == NodeIdentity {
		return i.Name
	}
	return string(i.Kind) + ":" + i.Name
}

// Subject is the certificate subject of i.
func (i Identity) Subject() pkix.Name {
	group := string(i.Kind)
	if i.Kind == OperatorIdentity {
		group = string(i.Role)
	}
	return pkix.Name{CommonName: i.CommonName(), Organization: []string{organization + group}}
}

// URI is the certificate's one URI name, in the form of SPIFFE: spiffe://<cluster>/<kind>/<name>.
func (i Identity) URI() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: i.Cluster, Path: "/" + string(i.Kind) + "/" + i.Name}
}

// IdentityOf reads the identity from a certificate whose chain and time somebody else has verified. Subject and URI must
// tell the same, and the subject nothing else: of two common names another reader (mosquitto) might take the other.
func IdentityOf(cert *x509.Certificate) (Identity, error) {
	subject := cert.Subject
	if cert.IsCA || len(subject.Names) != 2 || len(subject.Organization) != 1 || subject.CommonName == "" || len(cert.URIs) != 1 {
		return Identity{}, errors.New("certificate is no Skerry client's: wanted one common name, one organization, one URI name")
	}
	uri := cert.URIs[0]
	path, rooted := strings.CutPrefix(uri.Path, "/")
	kind, name, ok := strings.Cut(path, "/")
	if !rooted || !ok || uri.Scheme != "spiffe" || uri.User != nil || uri.RawQuery != "" || uri.Fragment != "" || uri.ForceQuery {
		return Identity{}, fmt.Errorf("certificate URI %q: wanted spiffe://cluster/kind/name", uri)
	}
	sum := sha256.Sum256(cert.Raw)
	id := Identity{Kind: IdentityKind(kind), Name: name, Cluster: uri.Host, SHA256: hex.EncodeToString(sum[:]), NotAfter: cert.NotAfter}
	group := strings.TrimPrefix(cert.Subject.Organization[0], organization)
	switch id.Kind {
	case NodeIdentity:
		ok = group == kind
	case ClusterIdentity:
		ok = group == kind // of several cluster agents each has a name of its own
	case OperatorIdentity:
		id.Role = api.Role(group)
		ok = api.RoleAdmin.Includes(id.Role)
	default:
		ok = false
	}
	if !ok || cert.Subject.CommonName != id.CommonName() || cert.Subject.Organization[0] != organization+group {
		return Identity{}, fmt.Errorf("certificate subject %q and URI %q disagree", cert.Subject, uri)
	}
	if err := errors.Join(api.ValidID("certificate name", id.Name), api.ValidID("certificate cluster", id.Cluster)); err != nil {
		return Identity{}, err
	}
	return id, nil
}
