package fault

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	randv2 "math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-edge/skerry/edge/identity"
)

// clockKinds are what happens to the time.
func clockKinds() []Kind {
	return []Kind{
		{Name: "clock", Help: "the clock jumps by so many seconds, and back at the end; year 1970: it begins anew there", Lane: "clock",
			Targets: agents(), Least: 5 * time.Second, Most: 40 * time.Second, Inject: injectClock, Bites: bitesClock,
			Draw: func(d *randv2.Rand) map[string]float64 {
				jumps := []float64{30, -30, 600, -600, 3600, -3600, 86400}
				if k := d.IntN(len(jumps) + 2); k < len(jumps) {
					return map[string]float64{"seconds": jumps[k]}
				}
				return map[string]float64{"year": 1970}
			}},
		{Name: "expired", Help: "kill -9, a certificate in place of the node's that expired, a start: it has to renew it", Lane: "process",
			Targets: []string{tierEdge1, tierEdge2}, Least: time.Second, Most: 5 * time.Second, Inject: injectExpired, Bites: bitesExpired},
	}
}

// jump is by how much a clock is off.
func jump(e Event) time.Duration {
	if e.Params["year"] == 1970 {
		return -time.Since(time.Unix(60, 0))
	}
	return time.Duration(e.Params["seconds"]) * time.Second
}

func injectClock(_ context.Context, r *Rig, e Event) (Heal, error) {
	p := r.process(e.Target)
	if p.Clock == nil {
		return nil, fmt.Errorf("the clock of %s cannot jump", e.Target)
	}
	p.Clock.Set(jump(e))
	return func(context.Context) error { p.Clock.Set(0); return nil }, nil
}

// bitesClock asks the node agent's kernel for the time, in the words of a log line that it writes; the cluster agent's by
// the date of its answers.
func bitesClock(ctx context.Context, r *Rig, e Event) error {
	p := r.process(e.Target)
	before, err := os.Stat(p.Log)
	if err != nil {
		return err
	}
	if err := r.provoke(ctx, e.Target); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return until(ctx, "a log line has another time", func() error {
		at, err := lastLogged(p.Log, before.Size())
		if err != nil {
			return err
		}
		if off := time.Since(at) + jump(e); off < -10*time.Second || off > 10*time.Second {
			return fmt.Errorf("it says %s", at)
		}
		return nil
	})
}

// injectExpired gives a node a certificate of its key that is like its own, but expired an hour ago.
func injectExpired(ctx context.Context, r *Rig, e Event) (Heal, error) {
	p := r.process(e.Target)
	if err := p.Kill(ctx); err != nil {
		return nil, err
	}
	dir := filepath.Join(p.Disk, "state")
	id, err := identity.Load(dir)
	if err != nil {
		return p.Start, err
	}
	ca, key, err := r.authority()
	if err != nil {
		return p.Start, err
	}
	leaf := id.Leaf()
	old := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: leaf.Subject, URIs: leaf.URIs, KeyUsage: leaf.KeyUsage,
		ExtKeyUsage: leaf.ExtKeyUsage, NotBefore: ca.NotBefore.Add(time.Minute), NotAfter: time.Now().Add(-time.Hour), BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, old, ca, leaf.PublicKey, key)
	if err != nil {
		return p.Start, err
	}
	next := *id
	next.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	err = next.Save(dir)
	if err != nil { // the disk may be full: then the node goes on with its own
		r.cfg.Say("no expired certificate: %v", err)
	}
	return p.Start, nil
}

func bitesExpired(_ context.Context, r *Rig, e Event) error {
	id, err := identity.Load(filepath.Join(r.process(e.Target).Disk, "state"))
	if err != nil {
		return err
	}
	if id.Leaf().NotAfter.After(time.Now()) {
		return errors.New("its certificate is good")
	}
	return nil
}

// authority is the cluster agent's CA.
func (r *Rig) authority() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	block := func(name string) ([]byte, error) {
		raw, err := os.ReadFile(filepath.Join(r.clusterDir(), name))
		if err != nil {
			return nil, err
		}
		b, _ := pem.Decode(raw)
		if b == nil {
			return nil, fmt.Errorf("%s holds no PEM", name)
		}
		return b.Bytes, nil
	}
	der, err := block("ca.crt")
	if err != nil {
		return nil, nil, err
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	if der, err = block("ca.key"); err != nil {
		return nil, nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("ca.key is a %T", key)
	}
	return ca, ec, nil
}
