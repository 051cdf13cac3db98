package enroll

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

func TestAJoinStringLeadsToACertificate(t *testing.T) {
	s := newSite(t, nil)
	token := s.token(t, TokenSpec{MaxUses: 1, Labels: map[string]string{"site": "a"}, By: "ann"})
	join, err := api.ParseJoin(token.Join)
	if err != nil || join.CASHA256 != s.cfg.Authority.SHA256() ||
		join.Expires.Time().Sub(join.Issued.Time()) != defaultTTL {
		t.Fatalf("join string = %+v, %v", join, err)
	}
	d := s.device(t)
	request := d.request(t, token, "gw-1")
	request.Labels = map[string]string{"site": "forged", "rack": "7"}
	reply, p := d.ask(t, "/v1/enroll", request)
	if p != nil {
		t.Fatal(p)
	}
	if reply.Status != api.EnrollIssued || reply.Node != "gw-1" || reply.Cluster != "c1" || reply.Root != "skerry/v1" ||
		len(reply.OrderKeys) != 1 || len(reply.MQTT) != 1 || len(reply.Endpoints) != 1 ||
		reply.Time != api.At(s.clock.now()) ||
		reply.CA != string(s.cfg.Authority.BundlePEM()) {
		t.Errorf("reply = %+v", reply)
	}
	d.keep(t, reply)
	now := s.clock.now()
	if got := d.cert.NotBefore; !got.Equal(now.Add(-time.Hour)) || !d.cert.NotAfter.Equal(now.Add(90*day)) {
		t.Errorf("certificate from %s to %s; wanted an hour ago to 90 days ahead", got, d.cert.NotAfter)
	}
	who, err := s.Authorize(d.cert)
	if err != nil || who.Kind != mqtt.NodeIdentity || who.Name != "gw-1" || who.Cluster != "c1" {
		t.Errorf("Authorize = %+v, %v", who, err)
	}
	n := s.registry.enrolled
	if len(n) != 1 || n[0].ID != "gw-1" || n[0].Labels["site"] != "a" || n[0].Labels["rack"] != "7" ||
		n[0].KeySHA256 != keyDigest(d.cert) ||
		n[0].Certificate.SHA256 != who.SHA256 {
		t.Errorf("registry was told %+v", n)
	}
	if status, body := d.do(t, http.MethodGet, "/healthz", nil); status != http.StatusOK || string(body) != "ok\n" {
		t.Errorf("healthz with the certificate: %d %q", status, body)
	}
}

func TestEachFaultOfATokenHasItsCode(t *testing.T) {
	s := newSite(t, nil)
	used := s.token(t, TokenSpec{MaxUses: 1})
	s.device(t).enroll(t, used, "first")
	expired := s.token(t, TokenSpec{TTL: time.Minute})
	revoked := s.token(t, TokenSpec{})
	if err := s.RevokeToken(revoked.ID); err != nil {
		t.Fatal(err)
	}
	s.clock.add(2 * time.Minute)
	good := s.token(t, TokenSpec{})
	seen := map[string]bool{}
	for _, tc := range []struct {
		name   string
		token  api.Token
		change func(*api.EnrollRequest)
		code   string
		status int
	}{
		{"used up", used, nil, CodeTokenUsedUp, http.StatusForbidden},
		{"expired", expired, nil, CodeTokenExpired, http.StatusForbidden},
		{"revoked", revoked, nil, CodeTokenRevoked, http.StatusForbidden},
		{"wrong secret", good, func(r *api.EnrollRequest) { r.Secret = "wrong" }, CodeTokenInvalid, http.StatusUnauthorized},
		{"no secret", good, func(r *api.EnrollRequest) { r.Secret = "" }, CodeTokenInvalid, http.StatusUnauthorized},
		{"unknown id", good, func(r *api.EnrollRequest) { r.TokenID = "nobody" }, CodeTokenInvalid, http.StatusUnauthorized},
		{"revoked, wrong secret", revoked, func(r *api.EnrollRequest) { r.Secret = "wrong" }, CodeTokenInvalid,
			http.StatusUnauthorized},
		{"taken id", good, func(r *api.EnrollRequest) { r.Node = "first" }, CodeNodeExists, http.StatusConflict},
		{"bad id", good, func(r *api.EnrollRequest) { r.Node = "No/Good" }, CodeBody, http.StatusBadRequest},
		{"no csr", good, func(r *api.EnrollRequest) { r.CSR = "" }, CodeCSR, http.StatusBadRequest},
		{"damaged csr", good, func(r *api.EnrollRequest) { r.CSR = strings.Replace(r.CSR, "MI", "MH", 1) }, CodeCSR,
			http.StatusBadRequest},
		{"two csrs", good, func(r *api.EnrollRequest) { r.CSR += r.CSR }, CodeCSR, http.StatusBadRequest},
		{"long csr", good, func(r *api.EnrollRequest) { r.CSR = strings.Repeat("A", api.MaxPEMBytes+1) }, CodeBody,
			http.StatusBadRequest},
		{"long model", good, func(r *api.EnrollRequest) { r.Host.Model = strings.Repeat("m", 300) }, CodeBody,
			http.StatusBadRequest},
		{"long body", good, func(r *api.EnrollRequest) { r.Host.OS = strings.Repeat("m", maxBody) }, CodeBodyTooLarge,
			http.StatusRequestEntityTooLarge},
	} {
		d := s.device(t)
		request := d.request(t, tc.token, "")
		if tc.change != nil {
			tc.change(request)
		}
		reply, p := d.ask(t, "/v1/enroll", request)
		if p == nil {
			t.Errorf("%s: admitted as %s", tc.name, reply.Node)
			continue
		}
		if p.Code != tc.code || p.Status != tc.status || p.Detail == "" {
			t.Errorf("%s: %+v; wanted %d %s", tc.name, p, tc.status, tc.code)
		}
		if strings.HasPrefix(tc.code, "token_") && p.Cure == "" {
			t.Errorf("%s: no cure", tc.name)
		}
		seen[p.Code] = true
	}
	if s.uses(t, good.ID) != 0 {
		t.Errorf("refused requests used the token %d times", s.uses(t, good.ID))
	}
	if s.Counts()[CodeTokenInvalid] != 4 {
		t.Errorf("counts = %v; wanted 4 of %s", s.Counts(), CodeTokenInvalid)
	}
}

func TestOnlySoundKeysAreCertified(t *testing.T) {
	s := newSite(t, nil)
	token := s.token(t, TokenSpec{})
	ec := func(c elliptic.Curve) crypto.Signer {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	rsaKey := func(bits int) crypto.Signer {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		key crypto.Signer
		ok  bool
	}{
		"p256": {ec(elliptic.P256()), true}, "p384": {ec(elliptic.P384()), true}, "ed25519": {ed, true},
		"rsa2048": {rsaKey(2048), true},
		"p224":    {ec(elliptic.P224()), false}, "p521": {ec(elliptic.P521()), false}, "rsa1024": {rsaKey(1024), false},
	} {
		d := &device{site: s, key: tc.key}
		_, p := d.ask(t, "/v1/enroll", d.request(t, token, name))
		if tc.ok && p != nil {
			t.Errorf("%s: %v", name, p)
		}
		if !tc.ok {
			wantProblem(t, name, p, CodeCSRKey)
		}
	}
}

func TestConcurrentJoinsNeverExceedTheUses(t *testing.T) {
	s := newSite(t, nil)
	const uses, devices = 5, 24
	token := s.token(t, TokenSpec{MaxUses: uses})
	requests := make([]*api.EnrollRequest, devices)
	for i := range requests {
		requests[i] = s.device(t).request(t, token, "")
	}
	var admitted, refused atomic.Int32
	var wg sync.WaitGroup
	for _, r := range requests {
		for range 2 { // each device asks twice at once, as one that gave up waiting would
			wg.Go(func() {
				_, err := s.Enroll(r, "192.0.2.1")
				if p, ok := errors.AsType[*api.Problem](err); ok && p.Code == CodeTokenUsedUp {
					refused.Add(1)
				} else if err != nil {
					t.Error(err)
				} else {
					admitted.Add(1)
				}
			})
		}
	}
	wg.Wait()
	nodes, err := s.Enrolled()
	if err != nil || len(nodes) != uses || s.uses(t, token.ID) != uses ||
		admitted.Load() != 2*uses || refused.Load() != 2*(devices-uses) {
		t.Errorf("%d nodes (%v), %d uses, %d admitted, %d refused; wanted %d nodes", len(nodes), err, s.uses(t, token.ID),
			admitted.Load(), refused.Load(), uses)
	}
}

func TestALostReplyCostsNoSecondUse(t *testing.T) {
	s := newSite(t, nil)
	token := s.token(t, TokenSpec{MaxUses: 1, TTL: time.Hour})
	d := s.device(t)
	first := d.enroll(t, token, "")
	d.cert = nil // as far as the device knows, nothing happened
	for _, after := range []time.Duration{0, time.Minute, 2 * time.Hour, 20 * day} {
		s.clock.add(after)
		if after == 20*day { // as long as the token is kept
			break
		}
		again := d.enroll(t, token, "")
		if again.Node != first.Node {
			t.Errorf("asked again after %s it is %s; was %s", after, again.Node, first.Node)
		}
		if _, err := s.Authorize(d.cert); err != nil {
			t.Error(err)
		}
		d.cert = nil
	}
	if s.uses(t, token.ID) != 1 {
		t.Errorf("%d uses; wanted 1", s.uses(t, token.ID))
	}
	again := d.enroll(t, token, "") // its first certificate is no longer as good as new
	if again.Certificate == first.Certificate {
		t.Error("after 20 days the device got the old certificate")
	}
	if err := s.RevokeToken(token.ID); err != nil {
		t.Fatal(err)
	}
	d.cert = nil
	_, p := d.ask(t, "/v1/enroll", d.request(t, token, ""))
	wantProblem(t, "retry with a revoked token", p, CodeTokenRevoked)
}

func TestAFailingRegistryKeepsTheCertificateBackUntilItWorks(t *testing.T) {
	s := newSite(t, nil)
	token := s.token(t, TokenSpec{MaxUses: 1})
	d := s.device(t)
	s.registry.mu.Lock()
	s.registry.fail = errors.New("disk full")
	s.registry.mu.Unlock()
	_, p := d.ask(t, "/v1/enroll", d.request(t, token, "n1"))
	wantProblem(t, "enrolment", p, CodeInternal)
	if p != nil && strings.Contains(p.Error(), "disk full") {
		t.Errorf("the inner fault was told to the device: %v", p)
	}
	s.registry.mu.Lock()
	s.registry.fail = nil
	s.registry.mu.Unlock()
	d.enroll(t, token, "n1")
	if len(s.registry.enrolled) != 1 || s.uses(t, token.ID) != 1 {
		t.Errorf("registry was told %d times, %d uses; wanted 1 and 1", len(s.registry.enrolled), s.uses(t, token.ID))
	}
}

func TestNodeIDsAreChosenWithoutCollision(t *testing.T) {
	s := newSite(t, nil)
	token := s.token(t, TokenSpec{})
	ids := map[string]bool{}
	for _, host := range []string{"raspberrypi", "raspberrypi", "Raspberry_Pi.local", "localhost", "", "-.-",
		strings.Repeat("x", 200)} {
		d := s.device(t)
		r := d.request(t, token, "")
		r.Host.Hostname = host
		reply, p := d.ask(t, "/v1/enroll", r)
		if p != nil {
			t.Fatal(p)
		}
		if err := api.ValidID("node", reply.Node); err != nil || ids[reply.Node] {
			t.Errorf("host %q became %q (taken: %v): %v", host, reply.Node, ids[reply.Node], err)
		}
		ids[reply.Node] = true
	}
	if !ids["raspberrypi"] || !ids["raspberry-pi"] {
		t.Errorf("ids = %v; wanted the host names where they were free", ids)
	}
}

func TestAKeyIsOneNode(t *testing.T) {
	s := newSite(t, nil)
	d := s.device(t)
	d.enroll(t, s.token(t, TokenSpec{MaxUses: 1}), "n1")
	second := s.token(t, TokenSpec{MaxUses: 1})
	d.cert = nil
	_, p := d.ask(t, "/v1/enroll", d.request(t, second, "n2"))
	wantProblem(t, "a second id for one key", p, CodeKeyInUse)
	reply := d.enroll(t, second, "") // a device that kept its key but lost the rest
	if reply.Node != "n1" || s.uses(t, second.ID) != 1 {
		t.Errorf("it became %s with %d uses; wanted n1 and 1", reply.Node, s.uses(t, second.ID))
	}
}

func TestExpiredTokensAreSweptAndNodesStay(t *testing.T) {
	s := newSite(t, nil)
	token := s.token(t, TokenSpec{TTL: time.Hour})
	d := s.device(t)
	d.enroll(t, token, "n1")
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{2 * time.Hour, 1}, {tokenRetention, 0}} {
		s.clock.add(step.after)
		if err := s.Sweep(); err != nil {
			t.Fatal(err)
		}
		if tokens, err := s.Tokens(); err != nil || len(tokens) != step.want {
			t.Errorf("%d tokens, %v; wanted %d", len(tokens), err, step.want)
		}
	}
	if _, err := s.Authorize(d.cert); err != nil {
		t.Error(err)
	}
	_, p := s.device(t).ask(t, "/v1/enroll", s.device(t).request(t, token, "n2"))
	wantProblem(t, "a swept token", p, CodeTokenInvalid)
}

func TestArgumentsOfAJoinTokenAreChecked(t *testing.T) {
	s := newSite(t, nil)
	for _, spec := range []TokenSpec{{TTL: -1}, {TTL: time.Millisecond}, {TTL: 400 * day}, {MaxUses: -1},
		{MaxUses: maxUses + 1},
		{Labels: map[string]string{"": "x"}}, {Labels: map[string]string{"k": strings.Repeat("v", 300)}},
		{By: strings.Repeat("b", 300)}} {
		if _, err := s.CreateToken(spec); err == nil {
			t.Errorf("CreateToken(%+v) was accepted", spec)
		} else {
			wantCode(t, "token", err, CodeTokenArgs)
		}
	}
	wantCode(t, "unknown token", s.RevokeToken("nobody"), CodeTokenUnknown)
}

func TestAGuesserIsSlowedDownAndOthersAreNot(t *testing.T) {
	s := newSite(t, nil)
	token := s.token(t, TokenSpec{})
	d := s.device(t)
	guess := d.request(t, token, "")
	guess.Secret = "guess"
	codes := map[string]int{}
	for range failureBurst + 5 {
		_, p := d.ask(t, "/v1/enroll", guess)
		if p == nil {
			t.Fatal("a guess was right")
		}
		codes[p.Code]++
	}
	if codes[CodeTokenInvalid] != failureBurst || codes[CodeTooManyFailed] != 5 {
		t.Errorf("answers = %v; wanted %d and 5", codes, failureBurst)
	}
	if _, err := s.Enroll(d.request(t, token, ""), "198.51.100.1"); err != nil {
		t.Errorf("another caller: %v", err)
	}
	s.clock.add(time.Minute)
	d.enroll(t, token, "")
}

func TestEveryPathAnswersWithAProblem(t *testing.T) {
	s := newSite(t, nil)
	d := s.device(t)
	for _, tc := range []struct {
		method, path, code string
	}{{"GET", "/v1/enroll", CodeMethod}, {"PUT", "/v1/renew", CodeMethod}, {"POST", "/healthz", CodeMethod},
		{"GET", "/nothing", CodePath},
		{"POST", "/v1/enroll", CodeBody}, {"POST", "/v1/renew", CodeCertMissing}} {
		status, body := d.do(t, tc.method, tc.path, []byte("{"))
		if status < 400 || !strings.Contains(string(body), `"code":"`+tc.code+`"`) {
			t.Errorf("%s %s: %d %s; wanted %s", tc.method, tc.path, status, body, tc.code)
		}
	}
	bundle := string(s.cfg.Authority.BundlePEM())
	if status, body := d.do(t, "GET", "/v1/ca", nil); status != 200 || string(body) != bundle {
		t.Errorf("/v1/ca: %d %s", status, body)
	}
	if status, body := d.do(t, "GET", "/v1/time", nil); status != 200 || string(body) != `{"time":1795521600000}` {
		t.Errorf("/v1/time: %d %s", status, body)
	}
}

func TestACheckTellsTheOutcomeAndChangesNothing(t *testing.T) {
	s := newSite(t, nil)
	once := s.token(t, TokenSpec{MaxUses: 1})
	ask := s.device(t).request(t, once, "gw-1")
	ask.CheckOnly = true
	for range 2 {
		reply, p := s.device(t).ask(t, "/v1/enroll", ask)
		if p != nil || reply.Status != api.EnrollIssued || reply.Certificate != "" {
			t.Fatalf("check: reply %+v, problem %v; wanted issued without a certificate", reply, p)
		}
	}
	if n, told := s.uses(t, once.ID), s.registry.enrolled; n != 0 || len(told) != 0 {
		t.Errorf("after two checks %d uses and nodes %v; wanted none", n, told)
	}
	s.device(t).enroll(t, once, "gw-1")
	if reply, p := s.device(t).ask(t, "/v1/enroll", ask); p == nil {
		t.Errorf("check of a used token: reply %+v; wanted a problem", reply)
	}
}
