package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/enrolment"
)

const day = 24 * time.Hour

// following is a service whose clock is the node's.
func following(t *testing.T, w *watch, s *enrolment.Service) *enrolment.Service {
	span := enrolment.Span{From: noon().Add(-day), To: noon().Add(3650 * day)}
	s.CA = enrolment.NewCA(t, span)
	cert := s.CA.Server(span, "127.0.0.1")
	s.Now, s.Cert = w.now, &cert
	return s.Start(t)
}

func TestRenewalFallsDueAtTwoThirdsOfTheLifeSpreadByATenth(t *testing.T) {
	const life = 90 * time.Hour
	var waits []time.Duration
	for range 40 {
		synctest.Test(t, func(t *testing.T) {
			born := time.Now()
			k := &Keeper{}
			k.cfg.Client = &Client{Clock: agent.NewClock(born, agent.ClockSource{})}
			id := &Identity{leaf: &x509.Certificate{NotBefore: born, NotAfter: born.Add(life)}}
			if !k.waitUntilDue(t.Context(), id) {
				t.Fatal("the wait ended before its time")
			}
			waits = append(waits, time.Since(born))
		})
	}
	low, high := slices.Min(waits), slices.Max(waits)
	if low < 54*time.Hour || high > 66*time.Hour+lookAgain {
		t.Errorf("due after %s to %s; wanted 60h, a tenth more or less", low, high)
	}
	if high-low < 3*time.Hour {
		t.Errorf("forty nodes renew within %s; wanted them spread over twelve hours", high-low)
	}
}

// TestAClockThatJumpsOverTheDueTimeIsNoticedWithinAMinute stands for a device that was suspended, or whose clock was set.
func TestAClockThatJumpsOverTheDueTimeIsNoticedWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watch{at: noon()}
		k := &Keeper{}
		k.cfg.Client = &Client{Clock: w.believed()}
		began := time.Now()
		done := make(chan bool)
		go func() {
			done <- k.waitUntilDue(t.Context(), &Identity{leaf: &x509.Certificate{NotBefore: noon(), NotAfter: noon().Add(90 * day)}})
		}()
		synctest.Wait()
		w.set(noon().Add(70 * day))
		if !<-done || time.Since(began) > lookAgain {
			t.Errorf("noticed after %s; wanted at most %s", time.Since(began), lookAgain)
		}
	})
}

func TestRenewalInTheGraceWindowNeedsNoHands(t *testing.T) {
	for name, age := range map[string]time.Duration{
		"due":                         67 * day,
		"a minute after its end":      90*day + time.Minute,
		"a minute before the grace's": 180*day - time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, nil)
			s := following(t, n.watch, &enrolment.Service{})
			s.Renew = graced(s, 90*day)
			n.cfg.Join = func() (*api.Join, error) { return new(s.Join()), nil }
			first := n.enrolled()
			n.watch.set(noon().Add(age))
			n.run(func(k *Keeper) {
				eventually(t, "the certificate is renewed", func() bool { return k.Current().Describe() != first.Describe() })
				if k.Current().Key != first.Key || k.Current().Leaf().NotAfter.Before(n.watch.now().Add(89*day)) {
					t.Errorf("renewed as %+v", k.Current().Describe())
				}
			})
			kept, err := Load(n.dir)
			if err != nil || kept.Describe() == first.Describe() {
				t.Errorf("kept %v, error %v; wanted the new certificate", kept.Describe(), err)
			}
		})
	}
}

// graced renews as the cluster agent does: for an expired certificate within the grace alone.
func graced(s *enrolment.Service, grace time.Duration) func(*x509.Certificate, string) (*api.EnrollReply, *api.Problem) {
	return func(old *x509.Certificate, csr string) (*api.EnrollReply, *api.Problem) {
		if s.Now().Sub(old.NotAfter) > grace {
			return nil, refusal(http.StatusForbidden, "certificate_grace_over", "remove identity.json and join again")
		}
		return s.Issue(old.Subject.CommonName, csr), nil
	}
}

func TestAfterTheGraceTheNodeSaysWhatToDoAndGoesOn(t *testing.T) {
	n := newNode(t, nil)
	s := following(t, n.watch, &enrolment.Service{})
	s.Renew = graced(s, 90*day)
	n.cfg.Join = func() (*api.Join, error) { return new(s.Join()), nil }
	first := n.enrolled()
	n.watch.set(noon().Add(181 * day))
	n.run(func(k *Keeper) {
		eventually(t, "it says why", func() bool { return strings.Contains(k.Trouble(), "remove identity.json and join again") })
		eventually(t, "it asks again", func() bool { return s.Renewals() > 2 })
		if k.Current().Describe() != first.Describe() {
			t.Error("another certificate is in use")
		}
	})
}

func TestARenewalThatFailsIsTriedAgainAndItsTroubleForgotten(t *testing.T) {
	n := newNode(t, nil)
	s := following(t, n.watch, &enrolment.Service{})
	s.Renew = func(old *x509.Certificate, csr string) (*api.EnrollReply, *api.Problem) {
		switch s.Renewals() {
		case 1:
			return nil, refusal(http.StatusServiceUnavailable, "internal", "")
		case 2:
			return s.Issue("pump-4", csr), nil // somebody else's
		case 3:
			return &api.EnrollReply{Status: api.EnrollPending}, nil
		}
		return s.Issue(old.Subject.CommonName, csr), nil
	}
	n.cfg.Join = func() (*api.Join, error) { return new(s.Join()), nil }
	first := n.enrolled()
	n.watch.set(noon().Add(70 * day))
	n.run(func(k *Keeper) {
		eventually(t, "the certificate is renewed", func() bool { return k.Current().Describe() != first.Describe() })
		eventually(t, "the trouble is over", func() bool { return k.Trouble() == "" })
		if k.Current().Node != "pump-3" || s.Renewals() != 4 {
			t.Errorf("node %s after %d renewals; wanted pump-3 after 4", k.Current().Node, s.Renewals())
		}
	})
}

// TestARenewalBringsWhatChangedInTheCluster adds an address, rotates the CA and the order key.
func TestARenewalBringsWhatChangedInTheCluster(t *testing.T) {
	n := newNode(t, nil)
	s := following(t, n.watch, &enrolment.Service{})
	next := enrolment.NewCA(t, enrolment.Span{From: noon().Add(-day), To: noon().Add(3650 * day)})
	young := make(ed25519.PublicKey, ed25519.PublicKeySize)
	young[0] = 1
	s.Renew = func(old *x509.Certificate, csr string) (*api.EnrollReply, *api.Problem) {
		r := s.Issue(old.Subject.CommonName, csr)
		r.MQTT = append([]string{"mqtts://192.0.2.7:8883"}, r.MQTT...)
		r.Endpoints = append([]string{"https://192.0.2.7:8443"}, r.Endpoints...)
		r.CA = next.PEM() + r.CA
		r.OrderKeys = append([]api.Base64URL{api.Base64URL(young)}, r.OrderKeys...)
		return r, nil
	}
	n.cfg.Join = func() (*api.Join, error) { return new(s.Join()), nil }
	var heard [2]*Identity
	told := make(chan struct{}, 1)
	n.cfg.OnRenew = func(old, next *Identity) {
		heard = [2]*Identity{old, next}
		told <- struct{}{}
	}
	first := n.enrolled()
	n.watch.set(noon().Add(70 * day))
	n.run(func(k *Keeper) {
		<-told
		id := k.Current()
		if heard[0].Describe() != first.Describe() || heard[1] != id {
			t.Error("not told of the change from the old identity to the one in use")
		}
		if len(id.MQTT) != 2 || len(id.Endpoints) != 2 || len(id.OrderPublicKeys()) != 2 || !id.OrderPublicKeys()[0].Equal(young) {
			t.Errorf("renewed to %v, %v, %d order keys", id.MQTT, id.Endpoints, len(id.OrderKeys))
		}
		for name, ca := range map[string]*enrolment.CA{"old": s.CA, "new": next} {
			server := ca.Server(enrolment.Around(n.watch.now()), "127.0.0.1")
			if _, err := server.Leaf.Verify(x509.VerifyOptions{Roots: id.Pool(), CurrentTime: n.watch.now()}); err != nil {
				t.Errorf("a server under the %s CA: %v", name, err)
			}
		}
	})
}

// TestARenewedCertificateIsUsedThoughItCannotBeKept puts a directory where the file is staged, as a full or read-only
// flash would have it.
func TestARenewedCertificateIsUsedThoughItCannotBeKept(t *testing.T) {
	n := newNode(t, nil)
	s := following(t, n.watch, &enrolment.Service{})
	n.cfg.Join = func() (*api.Join, error) { return new(s.Join()), nil }
	first := n.enrolled()
	n.watch.set(noon().Add(100 * day))
	block := path(n.dir) + ".new"
	if err := os.MkdirAll(block+"/in-the-way", 0o700); err != nil {
		t.Fatal(err)
	}
	n.run(func(k *Keeper) {
		eventually(t, "it says that the certificate is not kept", func() bool { return strings.Contains(k.Trouble(), "not kept") })
		second := k.Current()
		if second.Describe() == first.Describe() {
			t.Error("the expired certificate is still in use")
		}
		n.watch.set(noon().Add(200 * day)) // for months
		eventually(t, "the next certificate is asked for", func() bool { return k.Current() != second })
		if err := os.Rename(block, block+".gone"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the certificate is kept", func() bool { return k.Trouble() == "" })
		kept, err := Load(n.dir)
		if err != nil || kept.Describe() != k.Current().Describe() {
			t.Errorf("kept %v, error %v", kept, err)
		}
		if s.Renewals() != 2 {
			t.Errorf("%d renewals for two certificates", s.Renewals())
		}
	})
}
