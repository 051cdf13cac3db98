package enroll

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// told passes on what s knows of node to other, and reports whether it was news.
func (s *site) told(t *testing.T, other *site, node string) bool {
	t.Helper()
	adm, err := s.Admission(node)
	if err != nil || adm == nil {
		t.Fatalf("admission %v, %v", adm, err)
	}
	if err := adm.Validate(); err != nil {
		t.Fatal(err)
	}
	news, _, err := other.Merge(adm)
	if err != nil {
		t.Fatal(err)
	}
	return news
}

func TestWhatOneReplicaAdmitsOrRemovesCountsAtTheOther(t *testing.T) {
	a := newSite(t, nil)
	b := newSite(t, func(c *Config) { c.Authority = a.cfg.Authority }) // one CA for both
	d := a.device(t)
	d.keep(t, d.enroll(t, a.token(t, TokenSpec{TTL: day, MaxUses: 1, Labels: map[string]string{"site": "x"}}), "n1"))
	if _, err := b.Authorize(d.cert); err == nil {
		t.Fatal("b knows a node that nobody told it of")
	}
	a.Peers([]string{"https://b:8443"})
	if reply, p := d.renew(t); p != nil || !slices.Equal(reply.Endpoints, []string{"https://127.0.0.1:8443", "https://b:8443"}) {
		t.Errorf("enrolled devices get the endpoints %v, %v", reply, p)
	}
	if join, err := api.ParseJoin(a.token(t, TokenSpec{TTL: day}).Join); err != nil || len(join.Endpoints) != 1 {
		t.Errorf("a join string has the endpoints %v, %v; its token is a's alone", join.Endpoints, err)
	}
	if !a.told(t, b, "n1") || a.told(t, b, "n1") {
		t.Error("wanted news once")
	}
	if who, err := b.Authorize(d.cert); err != nil || who.Name != "n1" {
		t.Errorf("authorize at b: %v, %v", who, err)
	}
	if n := len(b.registry.enrolled); n != 1 || b.registry.enrolled[0].Labels["site"] != "x" || b.registry.enrolled[0].Certificate.SHA256 == "" {
		t.Errorf("b's registry was told %+v", b.registry.enrolled)
	}
	there := &device{site: b, key: d.key, cert: d.cert}
	a.clock.add(80 * day)
	b.clock.add(80 * day)
	if reply, p := there.renew(t); p != nil || reply.Certificate == "" {
		t.Fatalf("renewal at b: %v", p)
	}
	if a.told(t, b, "n1") {
		t.Error("what b knows of a renewal is put back by what a knew before")
	}
	if !b.told(t, a, "n1") {
		t.Error("a did not take b's renewal")
	}
	if err := b.Label("n1", map[string]string{"tier": "x"}); err != nil {
		t.Fatal(err)
	}
	if adm, err := b.Admission("n1"); err != nil || adm.UserLabels["tier"] != "x" || !b.told(t, a, "n1") || a.told(t, b, "n1") {
		t.Errorf("labels do not travel: %+v, %v", adm, err)
	}
	if adm, err := a.Admission("n1"); err != nil || adm.UserLabels["tier"] != "x" {
		t.Errorf("a took %+v, %v", adm, err)
	}
	if err := a.Remove("n1", "alice"); err != nil {
		t.Fatal(err)
	}
	if !a.told(t, b, "n1") {
		t.Error("the removal is no news to b")
	}
	if _, err := b.Authorize(d.cert); err == nil {
		t.Error("b lets in a node that a removed")
	}
	if len(b.registry.revoked) != 1 {
		t.Errorf("b ended the sessions of %v; wanted n1's", b.registry.revoked)
	}
}

func TestTwoDevicesThatEnrolUnderOneIdAtTwoReplicasEndAsOne(t *testing.T) {
	a := newSite(t, nil)
	b := newSite(t, func(c *Config) { c.Authority = a.cfg.Authority })
	first, second := a.device(t), b.device(t)
	first.keep(t, first.enroll(t, a.token(t, TokenSpec{TTL: day, MaxUses: 1}), "n1"))
	b.clock.add(day / 2)
	second.keep(t, second.enroll(t, b.token(t, TokenSpec{TTL: day, MaxUses: 1}), "n1"))
	atA, err := a.Admission("n1")
	if err != nil {
		t.Fatal(err)
	}
	atB, err := b.Admission("n1")
	if err != nil {
		t.Fatal(err)
	}
	for s, adm := range map[*site]*api.Admission{a: atB, b: atA} {
		if _, _, err := s.Merge(adm); err != nil {
			t.Fatal(err)
		}
	}
	for name, s := range map[string]*site{"a": a, "b": b} {
		if _, err := s.Authorize(first.cert); err == nil {
			t.Errorf("%s lets the earlier device in", name)
		}
		if _, err := s.Authorize(second.cert); err != nil {
			t.Errorf("%s keeps the later device out: %v", name, err)
		}
	}
}

// exchange has each of two replicas hear what the broker kept of the other, and then, for as long as one says that what it
// heard is less than what is known, what that one has to say.
func exchange(t *testing.T, a, b *site, node string) {
	t.Helper()
	var kept [2]*api.Admission
	for i, s := range []*site{a, b} {
		var err error
		if kept[i], err = s.Admission(node); err != nil {
			t.Fatal(err)
		}
	}
	stale := map[*site]bool{}
	hear := func(s *site, adm *api.Admission) {
		_, less, err := s.Merge(adm)
		if err != nil {
			t.Fatal(err)
		}
		stale[s] = stale[s] || less
	}
	hear(a, kept[1])
	hear(b, kept[0])
	revision := max(kept[0].Revision, kept[1].Revision)
	for range 5 {
		speaker := a
		if !stale[a] {
			speaker = b
		}
		if !stale[speaker] {
			return
		}
		stale[speaker] = false
		adm, err := speaker.Admission(node)
		if err != nil {
			t.Fatal(err)
		}
		if adm.Revision < revision {
			t.Fatalf("revision %d is told after %d: a broker that keeps the latter looks newer", adm.Revision, revision)
		}
		revision = adm.Revision
		hear(a, adm)
		hear(b, adm)
	}
	t.Fatal("the two never agree")
}

// TestARemovalIsNotUndoneByARenewalElsewhere has a node renew at one replica, once or more often, while another removes it.
func TestARemovalIsNotUndoneByARenewalElsewhere(t *testing.T) {
	for renewals := range 3 {
		a := newSite(t, nil)
		b := newSite(t, func(c *Config) { c.Authority = a.cfg.Authority })
		d := a.device(t)
		d.keep(t, d.enroll(t, a.token(t, TokenSpec{TTL: day, MaxUses: 1}), "n1"))
		a.told(t, b, "n1")
		there := &device{site: b, key: d.key, cert: d.cert}
		for range renewals {
			a.clock.add(20 * day)
			b.clock.add(20 * day)
			reply, p := there.renew(t)
			if p != nil {
				t.Fatal(p)
			}
			there.keep(t, reply)
		}
		if err := a.Remove("n1", "alice"); err != nil {
			t.Fatal(err)
		}
		exchange(t, a, b, "n1")
		for name, s := range map[string]*site{"a": a, "b": b} {
			if _, err := s.Authorize(there.cert); err == nil {
				t.Errorf("after %d renewals %s lets a removed node in", renewals, name)
			}
			list, err := s.CRL()
			if err != nil {
				t.Fatal(err)
			}
			block, _ := pem.Decode(list)
			crl, err := x509.ParseRevocationList(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(crl.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
				return e.SerialNumber.Cmp(there.cert.SerialNumber) == 0
			}) {
				t.Errorf("after %d renewals the revocation list of %s does not name the node's certificate", renewals, name)
			}
		}
	}
}

func TestARemovedNodeComesBackByANewTokenAtAReplicaWhoseClockIsBehind(t *testing.T) {
	a := newSite(t, nil)
	b := newSite(t, func(c *Config) { c.Authority = a.cfg.Authority })
	d := a.device(t)
	d.keep(t, d.enroll(t, a.token(t, TokenSpec{TTL: day, MaxUses: 1}), "n1"))
	a.clock.add(time.Minute)
	if err := a.Remove("n1", "alice"); err != nil {
		t.Fatal(err)
	}
	a.told(t, b, "n1")
	again := &device{site: b, key: d.key}
	again.keep(t, again.enroll(t, b.token(t, TokenSpec{TTL: day, MaxUses: 1}), "n1"))
	exchange(t, a, b, "n1")
	for name, s := range map[string]*site{"a": a, "b": b} {
		if _, err := s.Authorize(again.cert); err != nil {
			t.Errorf("%s keeps the node out: %v", name, err)
		}
		if _, err := s.Authorize(d.cert); err == nil {
			t.Errorf("%s takes a certificate from before the removal", name)
		}
	}
}

func TestLabelsAndARenewalAtTwoReplicasAreBothKept(t *testing.T) {
	a := newSite(t, nil)
	b := newSite(t, func(c *Config) { c.Authority = a.cfg.Authority })
	d := a.device(t)
	d.keep(t, d.enroll(t, a.token(t, TokenSpec{TTL: day, MaxUses: 1}), "n1"))
	a.told(t, b, "n1")
	a.clock.add(30 * day)
	b.clock.add(30 * day)
	if err := a.Label("n1", map[string]string{"tier": "x"}); err != nil {
		t.Fatal(err)
	}
	there := &device{site: b, key: d.key, cert: d.cert}
	reply, p := there.renew(t)
	if p != nil {
		t.Fatal(p)
	}
	there.keep(t, reply)
	exchange(t, a, b, "n1")
	for name, s := range map[string]*site{"a": a, "b": b} {
		adm, err := s.Admission("n1")
		if err != nil {
			t.Fatal(err)
		}
		if adm.UserLabels["tier"] != "x" || len(adm.Certificates) != 2 {
			t.Errorf("%s has labels %v and %d certificates; wanted tier=x and 2", name, adm.UserLabels, len(adm.Certificates))
		}
	}
}

// TestAnOldTombstoneIsNotTakenUpAgain has a broker keep one for longer than anybody needs it.
func TestAnOldTombstoneIsNotTakenUpAgain(t *testing.T) {
	s := newSite(t, nil)
	d := s.device(t)
	d.keep(t, d.enroll(t, s.token(t, TokenSpec{TTL: day, MaxUses: 1}), "n1"))
	if err := s.Remove("n1", "alice"); err != nil {
		t.Fatal(err)
	}
	kept, err := s.Admission("n1")
	if err != nil {
		t.Fatal(err)
	}
	s.clock.add(181 * day)
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	news, stale, err := s.Merge(kept)
	if err != nil || news || !stale {
		t.Errorf("news %v, stale %v, %v; wanted it to be stale", news, stale, err)
	}
	if adm, err := s.Admission("n1"); err != nil || adm != nil {
		t.Errorf("%+v, %v; wanted nothing to be known", adm, err)
	}
}

// TestReplicasCallADeviceTheSameWithoutHavingHeardOfIt has two of one image enrol at replicas that are cut off from each other, and one of them, whose
// reply was lost, at the other replica too.
func TestReplicasCallADeviceTheSameWithoutHavingHeardOfIt(t *testing.T) {
	a := newSite(t, func(c *Config) { c.Replica = "a" })
	b := newSite(t, func(c *Config) { c.Authority, c.Replica = a.cfg.Authority, "b" })
	ask := func(d *device) *api.EnrollReply {
		t.Helper()
		r := d.request(t, d.site.token(t, TokenSpec{TTL: day, MaxUses: 1}), "")
		r.Host.Hostname = "raspberrypi"
		reply, p := d.ask(t, "/v1/enroll", r)
		if p != nil {
			t.Fatal(p)
		}
		if reply.Message != "" {
			t.Errorf("%q; wanted no word of another node", reply.Message)
		}
		return reply
	}
	first, second := a.device(t), b.device(t)
	lost := ask(first)
	first.site = b
	b.clock.add(time.Minute)
	again, other := ask(first), ask(second)
	first.keep(t, again)
	second.keep(t, other)
	if lost.Node != again.Node || other.Node == again.Node || !strings.HasPrefix(again.Node, "raspberrypi-") {
		t.Errorf("called %s, then %s, the other %s; wanted one id for each device", lost.Node, again.Node, other.Node)
	}
	b.told(t, a, again.Node)
	b.told(t, a, other.Node)
	a.told(t, b, again.Node)
	for name, s := range map[string]*site{"a": a, "b": b} {
		for _, d := range []*device{first, second} {
			if _, err := s.Authorize(d.cert); err != nil {
				t.Errorf("%s keeps one out: %v", name, err)
			}
		}
	}
}
