package enroll

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// bornHeader is the PEM header that dates an order key.
const bornHeader = "Born"

// orderKey is a key that signs orders.
type orderKey struct {
	key  ed25519.PrivateKey
	born time.Time
}

func (k orderKey) public() ed25519.PublicKey {
	return ed25519.PublicKey(k.key[ed25519.SeedSize:]) // RFC 8032 §5.1.5: the private key ends with the public one
}

func newOrderKey(now time.Time) (orderKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return orderKey{}, fmt.Errorf("make order key: %w", err)
	}
	return orderKey{key, now.UTC().Truncate(time.Second)}, nil
}

func encodeOrders(keys []orderKey) ([]byte, error) {
	var out []byte
	for _, k := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(k.key)
		if err != nil {
			return nil, fmt.Errorf("encode order key: %w", err)
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der,
			Headers: map[string]string{bornHeader: k.born.Format(time.RFC3339)}})...)
	}
	return out, nil
}

func decodeOrders(blocks []*pem.Block) ([]orderKey, error) {
	var out []orderKey
	for _, b := range blocks {
		parsed, err := x509.ParsePKCS8PrivateKey(b.Bytes)
		if err != nil {
			return nil, errors.New("damaged private key")
		}
		key, ok := parsed.(ed25519.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("holds a %T; wanted Ed25519", parsed)
		}
		born, err := time.Parse(time.RFC3339, b.Headers[bornHeader])
		if err != nil {
			return nil, fmt.Errorf("header %s %q: wanted an RFC 3339 instant", bornHeader, b.Headers[bornHeader])
		}
		out = append(out, orderKey{key, born})
	}
	return out, nil
}

// RotateRoot adds a new root. Client certificates are issued by it at once, listeners' certificates after the overlap;
// roots that are past the overlap of their successor's and one more are dropped. The bundle must be given to whoever
// else verifies clients (an external broker).
func (a *Authority) RotateRoot(ctx context.Context) error {
	unlock, err := a.dir.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := a.load(); err != nil { // another process may have rotated
		return err
	}
	fresh, err := newRoot(a.cfg.Cluster, a.cfg.Now())
	if err != nil {
		return err
	}
	old := retain(a.cfg, a.roots, root.born)
	if len(old) == maxRoots {
		return fmt.Errorf("rotate CA: %d roots are within their overlap of %s; wait for the oldest to leave", len(old),
			a.cfg.Overlap)
	}
	roots := append([]root{fresh}, old...)
	keys, err := encodeRootKeys(roots)
	if err != nil {
		return err
	}
	if err := a.dir.replace(rootKeysFile, keys); err != nil { // first: a key without its root does no harm
		return err
	}
	if err := a.dir.replace(rootsFile, encodeRoots(roots)); err != nil {
		return err
	}
	return a.load()
}

// RotateOrders adds a new order key. It signs once it has been known for the overlap.
func (a *Authority) RotateOrders(ctx context.Context) error {
	unlock, err := a.dir.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := a.load(); err != nil {
		return err
	}
	fresh, err := newOrderKey(a.cfg.Now())
	if err != nil {
		return err
	}
	old := retain(a.cfg, a.orders, func(k orderKey) time.Time { return k.born })
	if len(old) == maxRoots {
		return fmt.Errorf("rotate order key: %d keys are within their overlap of %s; wait for the oldest to leave",
			len(old), a.cfg.Overlap)
	}
	data, err := encodeOrders(append([]orderKey{fresh}, old...))
	if err != nil {
		return err
	}
	if err := a.dir.replace(ordersFile, data); err != nil {
		return err
	}
	return a.load()
}

// retain keeps what may still be in use: whatever has no successor that was in use itself for a whole overlap.
func retain[T any](cfg AuthorityConfig, newestFirst []T, born func(T) time.Time) []T {
	gone := cfg.Now().Add(-2 * cfg.Overlap)
	for i := range newestFirst {
		if !born(newestFirst[i]).After(gone) {
			return append([]T(nil), newestFirst[:i+1]...)
		}
	}
	return append([]T(nil), newestFirst...)
}
