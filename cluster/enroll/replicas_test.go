package enroll

import (
	"slices"
	"testing"

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
	news, err := other.Merge(adm)
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
		if _, err := s.Merge(adm); err != nil {
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
