package doctor

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/enrolment"
)

// sick is a node with one fault, and what the doctor has to say of it.
type sick struct {
	name    string
	patient *Patient
	step    string // the one that fails
	exit    int
	seen    string // part of each
	wanted  string
	cure    string
}

// TestTheFirstFaultIsNamedWithWhatWasSeenWhatWasWantedAndTheCure has each step be the first that fails.
func TestTheFirstFaultIsNamedWithWhatWasSeenWhatWasWantedAndTheCure(t *testing.T) {
	before, after := beforeEnrolment(t), afterEnrolment(t)
	said := map[string]string{}
	for i, c := range slices.Concat(before, after) {
		t.Run(c.name, func(t *testing.T) {
			v := examine(t, c.patient)
			f := v.last
			if f.OK || f.Step != c.step || f.Exit != c.exit {
				t.Errorf("ok %v, step %q, exit %d; wanted %q and %d in:\n%s", f.OK, f.Step, f.Exit, c.step, c.exit, v.text)
			}
			for _, part := range []struct{ what, got, want string }{{"seen", f.Seen, c.seen}, {"wanted", f.Wanted, c.wanted}, {"cure", f.Cure, c.cure}} {
				if part.want == "" || !strings.Contains(part.got, part.want) {
					t.Errorf("%s is %q; wanted %q in it", part.what, part.got, part.want)
				}
			}
			if other, taken := said[f.Detail+f.Cure]; taken && i < len(before) {
				t.Errorf("says the same as for %q: %s; %s", other, f.Detail, f.Cure)
			}
			said[f.Detail+f.Cure] = c.name
		})
	}
}

// serving is a service for 127.0.0.1 with a certificate for span and names under ca, both made when nil.
func serving(t *testing.T, ca *enrolment.CA, span enrolment.Span, names ...string) *enrolment.Service {
	t.Helper()
	if ca == nil {
		ca = enrolment.NewCA(t, enrolment.Span{From: noon().Add(-1000 * time.Hour), To: noon().Add(9000 * time.Hour)})
	}
	cert := ca.Server(span, names...)
	return (&enrolment.Service{Now: noon, CA: ca, Cert: &cert}).Start(t)
}

func beforeEnrolment(t *testing.T) []sick {
	t.Helper()
	good := (&enrolment.Service{Now: noon}).Start(t)
	to := func(endpoint string) *Patient {
		join := good.Join()
		join.Endpoints = []string{endpoint}
		return joining(join)
	}
	of := func(s *enrolment.Service) *Patient { return joining(s.Join()) }
	refusing := func(code string, status int, cure string) *Patient {
		s := &enrolment.Service{Now: noon, Enroll: func(*api.EnrollRequest) (*api.EnrollReply, *api.Problem) {
			return nil, &api.Problem{Status: status, Code: code, Title: http.StatusText(status), Detail: "join token: " + code, Cure: cure}
		}}
		return of(s.Start(t))
	}
	behind, ahead := enrolment.Span{From: noon().Add(time.Hour), To: noon().Add(2 * time.Hour)}, enrolment.Span{From: noon().Add(-2 * time.Hour), To: noon().Add(-time.Hour)}
	pin := good.Join()
	pin.CASHA256 = strings.Repeat("ab", 32)
	waiting := of(good)
	waiting.Waiting = "waiting for approval on the cluster"
	nobody := of(good)
	nobody.Join = nil
	service := &enrolment.Service{Now: noon, Enroll: func(r *api.EnrollRequest) (*api.EnrollReply, *api.Problem) {
		return &api.EnrollReply{Status: api.EnrollPending, Node: r.Node, Message: "node gw is there already, and is online now"}, nil
	}}
	taken := of(service.Start(t))
	taken.Node = "gw"
	return []sick{
		{"no join string", nobody, "join", 18, "join is empty", "a join string", "here: write it to /etc/skerry/edge.join"},
		{"the id is taken", taken, "approval", 19, "there already, and is online now", "approval by", "then skerry approve gw; here"},
		{"no such name", to("https://cluster.invalid:8443"), "dns", 11, "cluster.invalid", "an address for", "/etc/resolv.conf"},
		{"nothing listens", to(closed(t)), "tcp", 12, "refused", "a connection to 127.0.0.1:", "is skerry-cluster running"},
		{"packets are dropped", to(silent(t)), "tcp", 12, "timeout", "a connection to 127.0.0.1:", "a firewall drops the packets"},
		{"no TLS", to(plain(t)), "tls", 13, "first record does not look like a TLS handshake", "TLS 1.3 at 127.0.0.1:", "check the port"},
		{"TLS 1.2", to(old(t, *good.Cert)), "tls", 13, "protocol version", "TLS 1.3 with 127.0.0.1", "a proxy in between"},
		{"another name", of(serving(t, nil, enrolment.Around(noon()), "cluster.example", "192.0.2.1")), "tls", 13,
			"certificate for cluster.example, 192.0.2.1", "127.0.0.1", "advertise: [cluster.example, 192.0.2.1, 127.0.0.1]"},
		{"server not valid yet", of(serving(t, nil, behind, "127.0.0.1")), "clock", 10, "this device says 2026-11-24T12:00:00Z",
			"a time from 2026-11-24T13:00:00Z to 2026-11-24T14:00:00Z", "set the clock"},
		{"another CA", joining(pin), "ca-pin", 14, "server presents CA sha256 " + good.CA.SHA256(), "CA sha256 abab", "take a new join string"},
		{"token expired", refusing("token_expired", 401, "make a new token"), "token", 15, "token_expired (token token-1)", "unused and in time", "make a new token"},
		{"token used up", refusing("token_used_up", 409, "make another token"), "token", 15, "token_used_up", "unused", "make another token"},
		{"token revoked", refusing("token_revoked", 403, "ask who revoked it"), "token", 15, "token_revoked", "known", "ask who revoked it"},
		{"token unknown, without a cure", refusing("token_invalid", 401, ""), "token", 15, "token_invalid", "known", "skerry token create"},
		{"service busy", refusing("too_many_requests", 429, "wait"), "token", 15, "too_many_requests", "a verdict", "wait a minute"},
		{"a person has to agree", waiting, "approval", 19, "waiting for approval", "approval by an administrator", "skerry approve pump-3"},
		{"server expired", of(serving(t, nil, ahead, "127.0.0.1")), "clock", 10, "this device says 2026-11-24T12:00:00Z",
			"a time from 2026-11-24T10:00:00Z to 2026-11-24T11:00:00Z", "the server's certificate has expired: restart skerry-cluster"},
	}
}

func afterEnrolment(t *testing.T) []sick {
	t.Helper()
	s := (&enrolment.Service{Now: noon}).Start(t)
	cert := func(span enrolment.Span, names ...string) *Patient {
		return enrolled(t, s, broker(t, s.CA.Server(span, names...), 0))
	}
	server := s.CA.Server(enrolment.Around(noon()), "127.0.0.1")
	foreign := enrolment.NewCA(t, enrolment.Around(noon())).Server(enrolment.Around(noon()), "127.0.0.1")
	old := enrolled(t, s, "mqtts://cluster.invalid")
	old.Clock = at(noon().Add(100 * 24 * time.Hour))
	running := enrolled(t, s, broker(t, server, -1))
	running.Running = true
	broken := &Patient{Clock: at(noon()), IdentityFault: errors.New("read identity /x/identity.json: unexpected end")}
	override := enrolled(t, s, broker(t, server, 0))
	override.Brokers = []string{"mqtts://elsewhere.invalid"}
	return []sick{
		{"damaged identity", broken, "certificate", 17, "/x/identity.json", "identity.json", "restore the file; or remove it"},
		{"own certificate expired", old, "certificate", 17, "expired 2027-02-22T12:00:00Z, now 2027-03-04T12:00:00Z", "a valid certificate", "renews by itself"},
		{"no such broker", enrolled(t, s, "mqtts://broker.invalid:8883"), "dns", 11, "broker.invalid", "mqtts://broker.invalid:8883", "resolv.conf"},
		{"broker of the configuration is wrong", override, "dns", 11, "elsewhere.invalid", "mqtts://elsewhere.invalid", "resolv.conf"},
		{"broker not there", enrolled(t, s, strings.Replace(closed(t), "https", "mqtts", 1)), "tcp", 12, "refused", "127.0.0.1:", "is the port right"},
		{"broker of another CA", enrolled(t, s, broker(t, foreign, 0)), "ca-pin", 14, "unknown authority", "this cluster's CA", "set up anew"},
		{"broker of another name", cert(enrolment.Around(noon()), "b.example"), "tls", 13, "certificate for b.example", "127.0.0.1", "advertise"},
		{"broker not valid yet", cert(enrolment.Span{From: noon().Add(time.Hour), To: noon().Add(9 * time.Hour)}, "127.0.0.1"), "clock", 10,
			"this device says", "from 2026-11-24T13:00:00Z", "set the clock"},
		{"broker refuses the node", enrolled(t, s, broker(t, server, 5)), "broker", 16, "(code 5)", "CONNACK, accepted", "skerry describe node pump-3"},
		{"broker hangs up", enrolled(t, s, broker(t, server, -1)), "broker", 16, "wait for CONNACK", "CONNACK, accepted", "removed or revoked"},
		{"broker hangs up on a second connection", running, "broker", 16, "EOF", "CONNACK, accepted", "join again"},
	}
}

func TestAHealthyNodeIsTakenThroughEveryStep(t *testing.T) {
	s := (&enrolment.Service{Now: noon}).Start(t)
	at127 := broker(t, s.CA.Server(enrolment.Around(noon()), "127.0.0.1"), 0)
	silentBroker := enrolled(t, s, at127)
	silentBroker.Running = true // it must not say CONNECT: that would end the running agent's session
	nameless := joining(s.Join())
	nameless.Node = ""
	late := s.Join()
	late.Expires = api.At(noon().Add(-time.Hour))
	behind := joining(s.Join())
	behind.Clock = at(time.Unix(5, 0)) // 1970
	wrongFirst := s.Join()
	other := serving(t, s.CA, enrolment.Around(noon()), "elsewhere.example")
	wrongFirst.Endpoints = []string{closed(t), "https://cluster.invalid", other.URL, s.URL}
	for name, c := range map[string]struct {
		patient *Patient
		steps   []string
		says    string
	}{
		"without an id":            {nameless, []string{"configuration", "state", "clock", "join", "dns", "tcp", "tls", "token", "approval"}, "accepted; the cluster chooses the id"},
		"before enrolment":         {joining(s.Join()), []string{"configuration", "state", "clock", "join", "dns", "tcp", "tls", "token", "approval"}, "accepted for pump-3"},
		"after it":                 {enrolled(t, s, at127), []string{"configuration", "state", "clock", "certificate", "dns", "tcp", "tls", "broker"}, "takes pump-3"},
		"while the agent runs":     {silentBroker, []string{"configuration", "state", "clock", "certificate", "dns", "tcp", "tls", "broker"}, "takes pump-3"},
		"clock in 1970":            {behind, []string{"configuration", "state", "clock", "join", "dns", "tcp", "tls", "token", "approval"}, "behind what is surely past"},
		"expired by its own clock": {joining(late), []string{"configuration", "state", "clock", "join", "dns", "tcp", "tls", "token", "approval"}, "expired 60m ago, if this device's clock is right"},
		"the last endpoint serves": {joining(wrongFirst), []string{"configuration", "state", "clock", "join", "dns", "tcp", "tls", "token", "approval"}, "but not with " + strings.TrimPrefix(other.URL, "https://")},
	} {
		t.Run(name, func(t *testing.T) {
			v := examine(t, c.patient)
			if !v.last.OK || v.last.Exit != ExitOK || !slices.Equal(v.steps, c.steps) || !strings.Contains(v.text, c.says) {
				t.Errorf("steps %v; wanted %v, and %q in:\n%s", v.steps, c.steps, c.says, v.text)
			}
		})
	}
	for _, asked := range s.Asked() {
		if !asked.CheckOnly {
			t.Error("the doctor used the token")
		}
	}
}

// TestAJoinStringThatCannotBeReadSaysHow spoils a join string as mails, terminals and people do.
func TestAJoinStringThatCannotBeReadSaysHow(t *testing.T) {
	whole := (&enrolment.Service{Now: noon}).Start(t).Join()
	text := whole.String()
	with := func(change func(*api.Join)) string {
		j := whole
		change(&j)
		return j.String()
	}
	for _, c := range []struct{ name, join, says string }{
		{"not a join string", "hello world", `wanted one that begins with "skerry1."`},
		{"another version", "skerry9" + strings.TrimPrefix(text, "skerry1"), `"ske"…`},
		{"the head is missing", text[20:], "begins with"},
		{"cut to its prefix", "skerry1.", "does not parse"},
		{"cut in the middle of a character", text[:len("skerry1.")+61], "not base64url"},
		{"pasted twice", strings.Repeat(text, 20), "wanted at most 4096"},
		{"no endpoint", with(func(j *api.Join) { j.Endpoints = nil }), "0 endpoints"},
		{"endpoint without TLS", with(func(j *api.Join) { j.Endpoints = []string{"http://h"} }), "wanted https://host:port"},
		{"short digest", with(func(j *api.Join) { j.CASHA256 = "ab" }), "wanted 64 hex digits"},
		{"no secret", with(func(j *api.Join) { j.Secret = "" }), "lacks its secret"},
		{"ends before it begins", with(func(j *api.Join) { j.Expires = j.Issued }), "or a lifetime"},
		{"no token", with(func(j *api.Join) { j.ID = "" }), "token id"},
	} {
		_, err := api.ParseJoin(c.join)
		if err == nil {
			t.Errorf("%s is accepted", c.name)
			continue
		}
		p := &Patient{Clock: at(noon()), JoinFault: err}
		v := examine(t, p)
		f := v.last
		if f.Exit != ExitJoin || f.Step != "join" || !strings.Contains(f.Seen, c.says) || !strings.Contains(f.Cure, "skerry token create") {
			t.Errorf("%s: exit %d, wanted 18 and %q in:\n%s", c.name, f.Exit, c.says, v.text)
		}
		if strings.Contains(v.text, whole.Secret) {
			t.Errorf("%s: tells the secret:\n%s", c.name, v.text)
		}
	}
	for n := range len(text) { // wherever it is cut
		if _, err := api.ParseJoin(text[:n]); err == nil {
			t.Errorf("the first %d of %d characters are accepted", n, len(text))
		}
	}
	wrapped := text[:40] + "\r\n   " + text[40:90] + "\n" + text[90:] + "\n"
	if j, err := api.ParseJoin(wrapped); err != nil || j.Secret != whole.Secret {
		t.Errorf("wrapped into lines: %v", err)
	}
}

func TestExitCodesAreOnePerClassAndNeverChange(t *testing.T) {
	codes := map[string]int{"ok": ExitOK, "clock": ExitClock, "dns": ExitDNS, "tcp": ExitTCP, "tls": ExitTLS, "ca-pin": ExitPin, "token": ExitToken,
		"broker": ExitBroker, "certificate": ExitCertificate, "join": ExitJoin, "approval": ExitApproval}
	want := map[string]int{"ok": 0, "clock": 10, "dns": 11, "tcp": 12, "tls": 13, "ca-pin": 14, "token": 15, "broker": 16, "certificate": 17,
		"join": 18, "approval": 19}
	for name, code := range codes {
		if code != want[name] {
			t.Errorf("%s is %d; scripts branch on %d", name, code, want[name])
		}
	}
}
