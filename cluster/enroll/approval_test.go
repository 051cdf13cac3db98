package enroll

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// post hands a body to the handler without a network.
func post(s *site, body []byte) (int, string) {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/enroll", strings.NewReader(string(body))))
	return w.Code, w.Body.String()
}

func (s *site) pending(t *testing.T, want int) []api.Enrollment {
	t.Helper()
	list, err := s.Pending()
	if err != nil || len(list) != want {
		t.Fatalf("Pending = %+v, %v; wanted %d", list, err, want)
	}
	return list
}

func (d *device) waits(t *testing.T, token api.Token, node string) {
	t.Helper()
	reply, p := d.ask(t, "/v1/enroll", d.request(t, token, node))
	if p != nil || reply.Status != api.EnrollPending || reply.RetryAfterMillis != 10_000 ||
		reply.Certificate != "" || reply.Message == "" {
		t.Fatalf("reply = %+v, problem %v; wanted pending", reply, p)
	}
}

func TestADeviceWaitsUntilItIsApproved(t *testing.T) {
	s := newSite(t, nil)
	token := s.token(t, TokenSpec{Approval: true, MaxUses: 1, TTL: time.Hour, Labels: map[string]string{"site": "a"}})
	d := s.device(t)
	for range 3 {
		d.waits(t, token, "n1")
	}
	e := s.pending(t, 1)[0]
	if e.Node != "n1" || e.Rejoin || e.TokenID != token.ID || e.Host.Hostname != "gw" || e.From != "127.0.0.1" ||
		s.uses(t, token.ID) != 0 {
		t.Errorf("pending = %+v, %d uses", e, s.uses(t, token.ID))
	}
	s.clock.add(2 * time.Hour) // people are slow: the token was good when the device asked
	d.waits(t, token, "n1")
	if _, err := s.Approve(e.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	d.enroll(t, token, "n1")
	if who, err := s.Authorize(d.cert); err != nil || who.Name != "n1" {
		t.Errorf("Authorize = %+v, %v", who, err)
	}
	s.pending(t, 0)
	if s.uses(t, token.ID) != 1 || s.registry.enrolled[0].Labels["site"] != "a" {
		t.Errorf("%d uses, node %+v", s.uses(t, token.ID), s.registry.enrolled)
	}
	_, err := s.Approve(e.ID, "ann")
	wantCode(t, "second approval", err, CodePendingUnknown)
}

func TestADeniedDeviceIsToldByWhomAndWhy(t *testing.T) {
	s := newSite(t, nil)
	token := s.token(t, TokenSpec{Approval: true})
	d := s.device(t)
	d.waits(t, token, "n1")
	if _, err := s.Deny("n1", "ann", "not ours"); err != nil {
		t.Fatal(err)
	}
	s.pending(t, 0)
	_, p := d.ask(t, "/v1/enroll", d.request(t, token, "n1"))
	wantProblem(t, "a denied device", p, CodeDenied)
	if p != nil && (!strings.Contains(p.Detail, "ann") || !strings.Contains(p.Detail, "not ours")) {
		t.Errorf("detail %q names neither who nor why", p.Detail)
	}
	if _, err := s.Approve("n1", "bob"); err != nil { // a change of mind
		t.Fatal(err)
	}
	d.enroll(t, token, "n1")
}

func TestAWipedNodeRejoinsAfterApproval(t *testing.T) {
	for name, tc := range map[string]struct {
		policy   bool
		approval bool
	}{"by the token": {false, true}, "by the policy": {true, false}} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(c *Config) { c.ApproveRejoin = tc.policy })
			old := s.device(t)
			old.enroll(t, s.token(t, TokenSpec{}), "n1")
			before := s.registry.enrolled[0]
			s.clock.add(time.Hour)
			wiped := s.device(t)
			token := s.token(t, TokenSpec{Approval: tc.approval, MaxUses: 1})
			wiped.waits(t, token, "n1")
			if e := s.pending(t, 1)[0]; !e.Rejoin {
				t.Errorf("pending = %+v; wanted a rejoin", e)
			}
			if _, err := s.Authorize(old.cert); err != nil {
				t.Errorf("the old certificate before the approval: %v", err)
			}
			if _, err := s.Approve("n1", "ann"); err != nil {
				t.Fatal(err)
			}
			_, err := s.Authorize(old.cert)
			wantCode(t, "the old certificate", err, CodeCertReplaced)
			_, p := old.renew(t)
			wantProblem(t, "renewal by the old key", p, CodeCertReplaced)
			if len(s.registry.revoked) != 1 || s.registry.revoked[0].Name != "n1" {
				t.Errorf("told to end the sessions of %+v", s.registry.revoked)
			}
			wiped.enroll(t, token, "n1")
			if _, err := s.Authorize(wiped.cert); err != nil {
				t.Error(err)
			}
			after := s.registry.enrolled[1]
			if after.Enrolled != before.Enrolled || after.KeySHA256 == before.KeySHA256 || s.uses(t, token.ID) != 1 {
				t.Errorf("node was %+v, is %+v, %d uses", before, after, s.uses(t, token.ID))
			}
			old.cert = nil // the old key may come back as somebody else only
			_, p = old.ask(t, "/v1/enroll", old.request(t, s.token(t, TokenSpec{}), "n2"))
			if p != nil {
				t.Errorf("the freed key as another node: %v", p)
			}
		})
	}
}

func TestWithoutApprovalATakenIDIsRefusedWithTheCure(t *testing.T) {
	s := newSite(t, nil)
	s.device(t).enroll(t, s.token(t, TokenSpec{}), "n1")
	d := s.device(t)
	_, p := d.ask(t, "/v1/enroll", d.request(t, s.token(t, TokenSpec{}), "n1"))
	wantProblem(t, "a taken id", p, CodeNodeExists)
	if p != nil && (!strings.Contains(p.Cure, "skerry approve n1") || !strings.Contains(p.Cure, "skerry node remove n1")) {
		t.Errorf("cure = %q", p.Cure)
	}
}

func TestApprovalsNeverExceedTheUses(t *testing.T) {
	s := newSite(t, nil)
	token := s.token(t, TokenSpec{Approval: true, MaxUses: 1})
	a, b := s.device(t), s.device(t)
	a.waits(t, token, "a")
	b.waits(t, token, "b")
	if _, err := s.Approve("a", "ann"); err != nil {
		t.Fatal(err)
	}
	_, err := s.Approve("b", "ann")
	wantCode(t, "one approval too many", err, CodeTokenUsedUp)
	if err := s.RevokeToken(token.ID); err != nil {
		t.Fatal(err)
	}
	_, err = s.Approve("b", "ann")
	wantCode(t, "approval with a revoked token", err, CodeTokenRevoked)
	_, p := b.ask(t, "/v1/enroll", b.request(t, token, "b"))
	wantProblem(t, "waiting with a revoked token", p, CodeTokenRevoked)
}

func TestAnApprovalThatWouldReplaceANodeUnseenIsRefused(t *testing.T) {
	s := newSite(t, nil)
	token := s.token(t, TokenSpec{Approval: true})
	waiting := s.device(t)
	waiting.waits(t, token, "n1")
	other := s.device(t)
	other.enroll(t, s.token(t, TokenSpec{}), "n1")
	if !s.pending(t, 1)[0].Rejoin {
		t.Error("the list does not show that approving replaces a key now")
	}
	_, err := s.Approve("n1", "ann")
	wantCode(t, "approval", err, CodePendingChanged)
	if _, err := s.Authorize(other.cert); err != nil {
		t.Error(err)
	}
}

func TestTheQueueForApprovalIsBoundedAndForgets(t *testing.T) {
	s := newSite(t, nil)
	token := s.token(t, TokenSpec{Approval: true, TTL: 30 * day})
	for range maxPendingPerToken {
		if _, err := s.Enroll(s.device(t).request(t, token, "same"), "192.0.2.1"); err != nil {
			t.Fatal(err)
		}
	}
	late := s.device(t)
	_, p := late.ask(t, "/v1/enroll", late.request(t, token, "late"))
	wantProblem(t, "one device too many", p, CodePendingFull)
	_, err := s.Approve("same", "ann")
	wantCode(t, "an ambiguous approval", err, CodePendingChanged)
	s.clock.add(pendingLife + time.Minute)
	s.pending(t, 0)
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	late.waits(t, token, "late")
}

// TestWhoAsksForATakenIDIsToldWhoHasIt tells it to the device, to the doctor of one that waits, and to the person who decides.
func TestWhoAsksForATakenIDIsToldWhoHasIt(t *testing.T) {
	online := api.PresenceOnline
	s := newSite(t, func(c *Config) {
		c.ApproveRejoin = true
		c.Presence = func(node string) api.Presence {
			if node != "n1" {
				t.Errorf("asked for the presence of %q", node)
			}
			return online
		}
	})
	s.device(t).enroll(t, s.token(t, TokenSpec{}), "n1")
	d, token := s.device(t), s.token(t, TokenSpec{})
	for _, c := range []struct {
		check bool
		want  string
	}{{false, "is online now"}, {true, "is online now"}, {false, "is disconnected now"}} {
		r := d.request(t, token, "n1")
		if r.CheckOnly = c.check; strings.Contains(c.want, "disconnected") {
			online = api.PresenceDisconnected
		}
		reply, p := d.ask(t, "/v1/enroll", r)
		if p != nil || !strings.Contains(reply.Message, "node n1 is there already") || !strings.Contains(reply.Message, c.want) ||
			!strings.Contains(reply.Message, "skerry approve n1") {
			t.Errorf("check %v: %+v, %v; wanted who is there, %q, and the choice", c.check, reply, p, c.want)
		}
	}
	if e := s.pending(t, 1)[0]; !e.Rejoin || e.Presence != api.PresenceDisconnected {
		t.Errorf("pending %+v; wanted how the node is whose place it would take", e)
	}
}

// TestTwoOfOneHostNameThatWaitBecomeTwoNodes approves one: the other goes on waiting, under another id and with what its token
// was when it asked.
func TestTwoOfOneHostNameThatWaitBecomeTwoNodes(t *testing.T) {
	s := newSite(t, func(c *Config) { c.ApproveRejoin = true })
	token := s.token(t, TokenSpec{Approval: true, TTL: time.Hour})
	first, second := s.device(t), s.device(t)
	first.waits(t, token, "")
	second.waits(t, token, "")
	waiting := s.pending(t, 2)
	if waiting[0].Node != "gw" || waiting[1].Node != "gw" {
		t.Fatalf("waiting %+v; wanted both under their host name", waiting)
	}
	s.clock.add(2 * time.Hour)
	if _, err := s.Approve(waiting[0].ID, "ann"); err != nil {
		t.Fatal(err)
	}
	a, b := first, second
	if key, err := readCSR(csrOf(t, first.key)); err != nil || waiting[0].KeySHA256 != key.sha256 { // both asked in one millisecond
		a, b = second, first
	}
	if reply := a.enroll(t, token, ""); reply.Node != "gw" || reply.Message != "" {
		t.Errorf("the first became %s: %s", reply.Node, reply.Message)
	}
	b.waits(t, token, "")
	e := s.pending(t, 1)[0]
	if e.Rejoin || e.Node != "gw-"+e.KeySHA256[:8] {
		t.Errorf("the other waits as %+v; wanted an id of its own", e)
	}
	if _, err := s.Approve(e.Node, "ann"); err != nil {
		t.Fatal(err)
	}
	if reply := b.enroll(t, token, ""); reply.Node != e.Node || !strings.Contains(reply.Message, "skerry node remove gw") {
		t.Errorf("the other became %s: %q; wanted to be told that gw is another", reply.Node, reply.Message)
	}
}
