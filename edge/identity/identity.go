// Package identity is who a node is: its key, its certificate and whom it trusts. The key is made on the device and
// never leaves it; the certificate is renewed while the agent runs.
package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// Identity is what the file identity.json holds. Certificate is empty until enrolment has succeeded, and Node then only what
// was asked for: empty when the cluster is to choose. Immutable once built: a renewal makes a new one.
type Identity struct {
	Node        string          `json:"node"`
	Cluster     string          `json:"cluster"`
	Root        string          `json:"root"`
	Key         string          `json:"key"`         // PEM, PKCS#8
	Certificate string          `json:"certificate"` // PEM
	CA          string          `json:"ca"`          // PEM, one or more
	MQTT        []string        `json:"mqtt"`
	Endpoints   []string        `json:"endpoints"`
	OrderKeys   []api.Base64URL `json:"orderKeys"`
	Joined      string          `json:"joined,omitempty"` // CA that the join string pinned: CA may be without it by now

	key  *ecdsa.PrivateKey
	leaf *x509.Certificate
	pool *x509.CertPool
}

const fileName = "identity.json"

// New makes an identity with a fresh ECDSA P-256 key and nothing else.
func New(node string) (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make node key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make node key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return &Identity{Node: node, Key: string(text), key: key}, nil
}

// Load reads dir/identity.json. The error is fs.ErrNotExist when the node never began to enrol.
func Load(dir string) (*Identity, error) {
	path := filepath.Join(dir, fileName)
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	var id Identity
	if err := json.Unmarshal(raw, &id); err != nil {
		return nil, fmt.Errorf("read identity %s: %w; restore the file, or remove it and join again", path, err)
	}
	if err := id.parse(); err != nil {
		return nil, fmt.Errorf("read identity %s: %w; restore the file, or remove it and join again", path, err)
	}
	return &id, nil
}

// Save writes dir/identity.json, whole or not at all.
func (id *Identity) Save(dir string) error {
	raw, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	if err := writeFile(filepath.Join(dir, fileName), append(raw, '\n')); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	return nil
}

// writeFile replaces path by way of a synced temporary file beside it, and syncs the directory. What a write that was cut
// short left behind is removed first: whoever may read that file could read the new key.
func writeFile(path string, data []byte) (err error) {
	staged := path + ".new"
	if err := os.Remove(staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp, err := os.OpenFile(staged, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(staged, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(staged))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// tighten takes the key in dir/identity.json away from everybody but its owner, and reports whether anybody had it. A
// device in the field goes on working: a key that somebody may have read is for a person to replace, by joining again.
func tighten(dir string) (was fs.FileMode, err error) {
	path := filepath.Join(dir, fileName)
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("look at identity: %w", err)
	}
	was = info.Mode().Perm()
	if was&0o077 == 0 {
		return 0, nil
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return was, fmt.Errorf("take identity from other users: %w", err)
	}
	return was, nil
}

// Enrolled reports whether the node has a certificate.
func (id *Identity) Enrolled() bool { return id.leaf != nil }

// Leaf is the node's certificate, nil before enrolment.
func (id *Identity) Leaf() *x509.Certificate { return id.leaf }

// life is how long the certificate is good.
func (id *Identity) life() time.Duration { return id.leaf.NotAfter.Sub(id.leaf.NotBefore) }

// Unseal opens what was sealed to the key of this identity for one workload.
func (id *Identity) Unseal(workload string, sealed *api.Sealed) (*api.Secrets, error) {
	return mqtt.OpenSecrets(id.key, mqtt.Place{Node: id.Node, Workload: workload}, sealed)
}

// Pool is the cluster's CA, nil before enrolment.
func (id *Identity) Pool() *x509.CertPool { return id.pool }

// Describe names the certificate in use.
func (id *Identity) Describe() api.Certificate {
	if id.leaf == nil {
		return api.Certificate{}
	}
	sum := sha256.Sum256(id.leaf.Raw)
	return api.Certificate{SHA256: hex.EncodeToString(sum[:]), NotAfter: api.At(id.leaf.NotAfter)}
}

// TLSCertificate is the node's certificate with its key, for a client handshake.
func (id *Identity) TLSCertificate() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{id.leaf.Raw}, PrivateKey: id.key, Leaf: id.leaf}
}

// OrderPublicKeys are the keys that sign orders.
func (id *Identity) OrderPublicKeys() []ed25519.PublicKey {
	keys := make([]ed25519.PublicKey, 0, len(id.OrderKeys))
	for _, k := range id.OrderKeys {
		keys = append(keys, ed25519.PublicKey(k))
	}
	return keys
}

// CSR returns a certificate request in PEM, signed by the node's key.
func (id *Identity) CSR() (string, error) {
	tmpl := &x509.CertificateRequest{Subject: pkix.Name{CommonName: id.Node}}
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, id.key)
	if err != nil {
		return "", fmt.Errorf("make certificate request: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// With returns the identity that reply makes of id: same key, new papers. caSHA256, when not empty, is the digest that
// the reply's CA must contain.
func (id *Identity) With(reply *api.EnrollReply, caSHA256 string) (*Identity, error) {
	next := &Identity{Node: reply.Node, Cluster: reply.Cluster, Root: reply.Root, Key: id.Key, Certificate: reply.Certificate,
		CA: reply.CA, MQTT: reply.MQTT, Endpoints: reply.Endpoints, OrderKeys: reply.OrderKeys, Joined: caSHA256}
	if caSHA256 == "" {
		next.Joined = id.Joined
	}
	if err := next.parse(); err != nil {
		return nil, fmt.Errorf("enrolment reply: %w", err)
	}
	if next.leaf == nil {
		return nil, errors.New("enrolment reply: no certificate")
	}
	if len(next.Endpoints) == 0 {
		return nil, errors.New("enrolment reply: no endpoint, so that nothing could be renewed")
	}
	if caSHA256 != "" && !hasDigest([]byte(reply.CA), caSHA256) {
		return nil, errors.New("enrolment reply: its CA is not the pinned one")
	}
	return next, nil
}

// parse fills the unexported fields from the text ones and checks that they belong together.
func (id *Identity) parse() error {
	block, _ := pem.Decode([]byte(id.Key))
	if block == nil {
		return errors.New("key: no PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("key: %T; wanted ECDSA", key)
	}
	id.key = ec
	if id.Certificate == "" {
		return nil
	}
	return id.parsePapers()
}

func (id *Identity) parsePapers() error {
	block, _ := pem.Decode([]byte(id.Certificate))
	if block == nil {
		return errors.New("certificate: no PEM block")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if !id.key.PublicKey.Equal(leaf.PublicKey) {
		return errors.New("certificate: not for this node's key")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(id.CA)) {
		return errors.New("ca: no certificate in it")
	}
	if len(id.OrderKeys) == 0 {
		return errors.New("orderKeys: none; wanted at least one Ed25519 key")
	}
	for _, k := range id.OrderKeys {
		if len(k) != ed25519.PublicKeySize {
			return fmt.Errorf("orderKeys: one has %d bytes; wanted %d", len(k), ed25519.PublicKeySize)
		}
	}
	if len(id.MQTT) == 0 {
		return errors.New("mqtt: no broker")
	}
	id.leaf, id.pool = leaf, pool
	return errors.Join(api.ValidID("node", id.Node), api.ValidID("cluster", id.Cluster))
}

// Stray tells of a join string, by what it pins, that leads to another cluster than the one that id is of; nil: it does not.
// It may be the one that the node joined with, whose CA was replaced since.
func (id *Identity) Stray(caSHA256 string) error {
	if id.Joined == caSHA256 || hasDigest([]byte(id.CA), caSHA256) {
		return nil
	}
	return errors.New("the join string is for another cluster than " + id.Cluster + ", in which this device stays; to move it: skerry-edge leave")
}

// hasDigest reports whether one of the certificates in text has the given SHA-256.
func hasDigest(text []byte, want string) bool {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		sum := sha256.Sum256(block.Bytes)
		if hex.EncodeToString(sum[:]) == want {
			return true
		}
	}
	return false
}

// IsNone reports whether err says that the node never began to enrol.
func IsNone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
