package enroll

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// The authority's files. Each list is newest first.
const (
	rootsFile    = "ca.crt"     // root certificates, PEM; to be given to whoever shall trust the cluster
	rootKeysFile = "ca.key"     // their private keys
	ordersFile   = "orders.key" // Ed25519 keys that sign orders, each with its time of birth
)

// AuthorityConfig says where the authority lives. Overlap is how long a new root or order key is only made known before
// it is used where devices check it: at least the life of a node's certificate, since a renewal is how they learn of
// it; zero means 90 days. Now nil means time.Now.
type AuthorityConfig struct {
	Dir     string
	Cluster string
	Overlap time.Duration
	Now     func() time.Time
}

// Authority is the cluster's certificate authority and the keeper of its order-signing keys. Safe for concurrent use.
type Authority struct {
	cfg AuthorityConfig
	dir directory

	mu     sync.RWMutex
	roots  []root     // newest first, never empty
	orders []orderKey // newest first, never empty
}

// OpenAuthority reads the authority from its directory, or makes one when there is none at all. Several processes may
// do so at once and end with the same one. What exists is never replaced: a file that is missing, damaged or does not
// match the others is an error that names the file and the cure.
func OpenAuthority(ctx context.Context, cfg AuthorityConfig) (*Authority, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Overlap == 0 {
		cfg.Overlap = 90 * 24 * time.Hour
	}
	if cfg.Dir == "" || cfg.Overlap < 0 {
		return nil, fmt.Errorf("open CA: directory %q, overlap %s; wanted a path and no negative duration", cfg.Dir,
			cfg.Overlap)
	}
	if err := api.ValidID("cluster", cfg.Cluster); err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	a := &Authority{cfg: cfg, dir: directory(cfg.Dir)}
	unlock, err := a.dir.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := a.ensure(); err != nil {
		return nil, err
	}
	return a, a.load()
}

// ensure completes or begins the creation of the files.
func (a *Authority) ensure() error {
	present, missing, err := a.survey()
	if err != nil {
		return err
	}
	if len(present) == 0 {
		return a.createAll()
	}
	for _, name := range missing { // a creation that was cut short between two renames, or a loss
		staged, err := a.dir.has(name + newSuffix)
		if err != nil {
			return err
		}
		if !staged {
			return a.broken(name, errors.New("missing, while "+present[0]+" exists"))
		}
		if err := a.dir.rename(name+newSuffix, name); err != nil {
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return a.dir.sync()
}

func (a *Authority) survey() (present, missing []string, err error) {
	for _, name := range []string{ordersFile, rootKeysFile, rootsFile} {
		ok, err := a.dir.has(name)
		switch {
		case err != nil:
			return nil, nil, err
		case ok:
			present = append(present, name)
		default:
			missing = append(missing, name)
		}
	}
	return present, missing, nil
}

// createAll stages every file before it puts the first in place, so that a crash is told from a loss.
func (a *Authority) createAll() error {
	r, err := newRoot(a.cfg.Cluster, a.cfg.Now())
	if err != nil {
		return err
	}
	key, err := newOrderKey(a.cfg.Now())
	if err != nil {
		return err
	}
	staged := []struct {
		name    string
		content func() ([]byte, error)
	}{
		{ordersFile, func() ([]byte, error) { return encodeOrders([]orderKey{key}) }},
		{rootKeysFile, func() ([]byte, error) { return encodeRootKeys([]root{r}) }},
		{rootsFile, func() ([]byte, error) { return encodeRoots([]root{r}), nil }},
	}
	for _, f := range staged {
		data, err := f.content()
		if err != nil {
			return err
		}
		if err := a.dir.drop(f.name + newSuffix); err != nil {
			return err
		}
		if err := a.dir.create(f.name+newSuffix, data); err != nil {
			return err
		}
	}
	if err := a.dir.sync(); err != nil {
		return err
	}
	for _, f := range staged {
		if err := a.dir.rename(f.name+newSuffix, f.name); err != nil {
			return err
		}
	}
	return a.dir.sync()
}

// broken names the file that keeps the agent from starting, and what to do.
func (a *Authority) broken(name string, cause error) error {
	return fmt.Errorf("open CA: %s: %w; restore it from a backup, or, to give up this cluster's identity and have every "+
		"device join again, move %s, %s and %s out of %s", a.dir.path(name), cause, rootsFile, rootKeysFile, ordersFile,
		a.cfg.Dir)
}

// Roots returns the trusted root certificates, newest first.
func (a *Authority) Roots() []*x509.Certificate {
	a.mu.RLock()
	defer a.mu.RUnlock()
	out := make([]*x509.Certificate, len(a.roots))
	for i, r := range a.roots {
		out[i] = r.cert
	}
	return out
}

// Pool returns the roots for verification.
func (a *Authority) Pool() *x509.CertPool {
	return poolOf(a.Roots())
}

func poolOf(roots []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, cert := range roots {
		pool.AddCert(cert)
	}
	return pool
}

// BundlePEM returns the roots as PEM, newest first.
func (a *Authority) BundlePEM() []byte {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return encodeRoots(a.roots)
}

// SHA256 is the digest a join string pins: of the root that signs the listeners' certificates now.
func (a *Authority) SHA256() string {
	sum := sha256.Sum256(a.serverRoot().cert.Raw)
	return hex.EncodeToString(sum[:])
}

// serverRoot is the root that devices surely know: the newest that has been published for the overlap, or the oldest.
func (a *Authority) serverRoot() root {
	a.mu.RLock()
	defer a.mu.RUnlock()
	published := a.cfg.Now().Add(-a.cfg.Overlap)
	for _, r := range a.roots {
		if !r.born().After(published) {
			return r
		}
	}
	return a.roots[len(a.roots)-1]
}

// clientRoot is the newest root: whoever checks a client's certificate reads this authority's bundle.
func (a *Authority) clientRoot() root {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.roots[0]
}

// OrderKeys returns the public keys that may have signed an order, newest first.
func (a *Authority) OrderKeys() []api.Base64URL {
	a.mu.RLock()
	defer a.mu.RUnlock()
	out := make([]api.Base64URL, len(a.orders))
	for i, k := range a.orders {
		out[i] = api.Base64URL(k.public())
	}
	return out
}

// OrderSigner returns the key to sign orders with: the newest that devices surely know. It changes after a rotation, so
// it is asked for anew at each use.
func (a *Authority) OrderSigner() ed25519.PrivateKey {
	a.mu.RLock()
	defer a.mu.RUnlock()
	published := a.cfg.Now().Add(-a.cfg.Overlap)
	for _, k := range a.orders {
		if !k.born.After(published) {
			return k.key
		}
	}
	return a.orders[len(a.orders)-1].key
}

// certPEM writes certificates as PEM.
func certPEM(ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}
