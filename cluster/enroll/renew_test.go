package enroll

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

func TestACertificateIsRenewedWithItsKeyOnly(t *testing.T) {
	s := newSite(t, nil)
	d := s.device(t)
	d.enroll(t, s.token(t, TokenSpec{}), "n1")
	first := d.cert
	s.clock.add(60 * day)
	stranger := s.device(t)
	_, p := d.ask(t, "/v1/renew", api.RenewRequest{CSR: csrOf(t, stranger.key)})
	wantProblem(t, "a request with another key", p, CodeKeyMismatch)
	reply, p := d.renew(t)
	if p != nil {
		t.Fatal(p)
	}
	d.keep(t, reply)
	if !d.cert.NotAfter.Equal(s.clock.now().Add(90*day)) || keyDigest(d.cert) != keyDigest(first) {
		t.Errorf("renewed until %s", d.cert.NotAfter)
	}
	for _, cert := range []*x509.Certificate{first, d.cert} { // the reply may have been lost: both are good
		if _, err := s.Authorize(cert); err != nil {
			t.Error(err)
		}
	}
	if again, p := d.renew(t); p != nil || again.Certificate != reply.Certificate {
		t.Errorf("a renewal asked for again: %v; wanted the same certificate", p)
	}
}

func TestAnExpiredCertificateRenewsWithinTheGraceAndDoesNothingElse(t *testing.T) {
	for _, tc := range []struct {
		away, grace time.Duration
		ok          bool
	}{{91 * day, 0, true}, {179 * day, 0, true}, {181 * day, 0, false}, {400 * day, 0, false},
		{400 * day, 365 * day, true}} {
		s := newSite(t, func(c *Config) { c.Grace = tc.grace })
		d := s.device(t)
		d.enroll(t, s.token(t, TokenSpec{}), "n1")
		old := d.cert
		s.clock.add(tc.away)
		if _, err := s.Authorize(d.cert); err == nil {
			t.Errorf("after %s Authorize accepts the certificate", tc.away)
		} else {
			wantCode(t, "Authorize", err, CodeCertExpired)
		}
		for _, path := range []string{"/healthz", "/v1/ca", "/v1/time", "/nothing", "/v1/renew/"} {
			status, body := d.do(t, http.MethodGet, path, nil)
			if status != http.StatusForbidden || !strings.Contains(string(body), CodeCertExpired) {
				t.Errorf("after %s GET %s: %d %s", tc.away, path, status, body)
			}
		}
		_, p := d.ask(t, "/v1/enroll", d.request(t, s.token(t, TokenSpec{}), "n1"))
		wantProblem(t, "enrolment with an expired certificate", p, CodeCertExpired)
		reply, p := d.renew(t)
		if !tc.ok {
			wantProblem(t, "renewal after "+tc.away.String(), p, CodeCertGraceOver)
			continue
		}
		if p != nil {
			t.Errorf("renewal after %s: %v", tc.away, p)
			continue
		}
		d.keep(t, reply)
		if _, err := s.Authorize(d.cert); err != nil {
			t.Error(err)
		}
		if _, err := s.Authorize(old); err == nil {
			t.Error("the renewal revived the expired certificate")
		}
	}
}

func TestARemovedNodeHasNoWayBackButANewToken(t *testing.T) {
	s := newSite(t, nil)
	token := s.token(t, TokenSpec{MaxUses: 1})
	d := s.device(t)
	d.enroll(t, token, "n1")
	if err := s.Remove("n1", "ann"); err != nil {
		t.Fatal(err)
	}
	again := s.Remove("n1", "ann")
	wantCode(t, "second removal", again, CodeNodeUnknown)
	if p, ok := errors.AsType[*api.Problem](again); !ok || p.Cure != "`skerry get nodes` lists them" {
		t.Errorf("cure %+v; wanted the list to look at", again)
	}
	if got := s.registry.revoked; len(got) != 1 || got[0].Name != "n1" || got[0].Kind != mqtt.NodeIdentity {
		t.Errorf("told to end the sessions of %+v", got)
	}
	_, err := s.Authorize(d.cert)
	wantCode(t, "Authorize", err, CodeNodeRemoved)
	bare := &device{site: s, key: d.key}
	_, p := bare.ask(t, "/v1/enroll", bare.request(t, token, "n1"))
	wantProblem(t, "the token it came by", p, CodeTokenUsedUp) // being known by it is over, too
	for range 2 {                                              // now, and expired
		_, p := d.renew(t)
		wantProblem(t, "renewal", p, CodeNodeRemoved)
		s.clock.add(95 * day)
	}
	old := d.cert
	d.cert = nil
	d.enroll(t, s.token(t, TokenSpec{}), "n1")
	s.clock.add(-150 * day) // the old certificate's time again: a clock set back must not revive it
	_, err = s.Authorize(old)
	wantCode(t, "the certificate from before the removal", err, CodeCertRevoked)
}

func TestTombstonesAreSweptWhenNoCertificateCouldBeRenewed(t *testing.T) {
	s := newSite(t, nil)
	d := s.device(t)
	d.enroll(t, s.token(t, TokenSpec{}), "n1")
	if err := s.Remove("n1", "ann"); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		code  string
	}{{179 * day, CodeNodeRemoved}, {2 * day, CodeNodeUnknown}} {
		s.clock.add(step.after)
		if err := s.Sweep(); err != nil {
			t.Fatal(err)
		}
		_, p := d.renew(t)
		wantProblem(t, "renewal", p, step.code)
	}
}

func TestForeignCertificatesAreRefused(t *testing.T) {
	s := newSite(t, nil)
	d := s.device(t)
	d.enroll(t, s.token(t, TokenSpec{}), "n1")
	node := mqtt.Identity{Kind: mqtt.NodeIdentity, Name: "n1", Cluster: "c1"}
	foreign, err := newRoot("c1", s.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	own := s.cfg.Authority.clientRoot()
	server, err := own.issueServer([]string{"localhost"}, s.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	pub := d.key.Public()
	other := s.device(t)
	issue := func(r root, who mqtt.Identity, key any) *x509.Certificate {
		cert, err := r.issueClient(who, key, s.clock.now(), day)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	for name, tc := range map[string]struct {
		cert *x509.Certificate
		code string
	}{
		"another CA of the same name": {issue(foreign, node, pub), CodeCertUntrusted},
		"a server's":                  {server.Leaf, CodeCertUntrusted},
		"the CA's own":                {own.cert, CodeCertUntrusted},
		"another cluster's": {issue(own, mqtt.Identity{Kind: mqtt.NodeIdentity, Name: "n1", Cluster: "c2"}, pub),
			CodeCertUntrusted},
		"another key": {issue(own, node, other.key.Public()), CodeCertReplaced},
		"a node never enrolled": {issue(own, mqtt.Identity{Kind: mqtt.NodeIdentity, Name: "n2", Cluster: "c1"}, pub),
			CodeNodeUnknown},
		"an operator not on record": {issue(own, mqtt.Identity{Kind: mqtt.OperatorIdentity, Name: "ann",
			Role: api.RoleAdmin, Cluster: "c1"}, pub), CodeCertUntrusted},
		"a cluster agent's copy": {issue(own, mqtt.Identity{Kind: mqtt.ClusterIdentity, Name: "c1", Cluster: "c1"},
			pub), CodeCertUntrusted},
	} {
		_, err := s.Authorize(tc.cert)
		wantCode(t, name, err, tc.code)
	}
}

func TestAClockThatFellBackCutsNobodyOff(t *testing.T) {
	s := newSite(t, nil)
	d := s.device(t)
	d.enroll(t, s.token(t, TokenSpec{}), "n1")
	s.clock.add(-20 * 365 * day)
	if _, err := s.Authorize(d.cert); err != nil {
		t.Errorf("with the clock 20 years back: %v", err)
	}
}

func TestCertificatesOfARetiringRootStayGood(t *testing.T) {
	s := newSite(t, nil)
	d := s.device(t)
	d.enroll(t, s.token(t, TokenSpec{}), "n1")
	old := d.cert
	if err := s.cfg.Authority.RotateRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Authorize(old); err != nil {
		t.Error(err)
	}
	reply, p := d.renew(t)
	if p != nil {
		t.Fatal(p)
	}
	d.keep(t, reply)
	if d.cert.CheckSignatureFrom(s.cfg.Authority.Roots()[0]) != nil || strings.Count(reply.CA, "BEGIN CERTIFICATE") != 2 {
		t.Error("the renewal after a rotation is not by the new root, or does not bring both roots")
	}
}

func TestOperatorsAreIssuedListedAndRevoked(t *testing.T) {
	s := newSite(t, nil)
	d := s.device(t)
	op, err := s.IssueOperator(OperatorSpec{Name: "ann", Role: api.RoleOperator, CSR: csrOf(t, d.key), TTL: 30 * day,
		By: "root"})
	if err != nil {
		t.Fatal(err)
	}
	d.keep(t, &api.EnrollReply{Certificate: op.PEM})
	who, err := s.Authorize(d.cert)
	if err != nil || who.Kind != mqtt.OperatorIdentity || who.Name != "ann" || who.Role != api.RoleOperator {
		t.Fatalf("Authorize = %+v, %v", who, err)
	}
	_, p := d.renew(t)
	wantProblem(t, "renewal by an operator", p, CodeCertKind)
	list, err := s.ListOperators()
	if err != nil || len(list) != 1 || list[0].PEM != "" || list[0].Revoked ||
		list[0].Certificate.SHA256 != who.SHA256 {
		t.Errorf("ListOperators = %+v, %v", list, err)
	}
	if n, err := s.RevokeOperator("ann", "root"); n != 1 || err != nil {
		t.Fatalf("RevokeOperator = %d, %v", n, err)
	}
	if n, err := s.RevokeOperator("ann", "root"); n != 0 || err != nil {
		t.Errorf("second RevokeOperator = %d, %v", n, err)
	}
	_, err = s.RevokeOperator("bob", "root")
	wantCode(t, "revocation of nobody", err, CodeOperatorGone)
	_, err = s.Authorize(d.cert)
	wantCode(t, "Authorize", err, CodeCertRevoked)
	if got := s.registry.revoked; len(got) != 1 || got[0].Name != "ann" || got[0].SHA256 != who.SHA256 {
		t.Errorf("told to end the sessions of %+v", got)
	}
	for _, spec := range []OperatorSpec{{Name: "", Role: api.RoleAdmin}, {Name: "x", Role: "root"},
		{Name: "x", Role: api.RoleAdmin, TTL: -1}} {
		_, err := s.IssueOperator(spec)
		wantCode(t, "IssueOperator", err, CodeOperatorArgs)
	}
}

func TestTheRevocationListNamesWhatIsRevokedForEveryRoot(t *testing.T) {
	s := newSite(t, nil)
	d := s.device(t)
	d.enroll(t, s.token(t, TokenSpec{}), "n1")
	if err := s.cfg.Authority.RotateRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	lists := func() []*x509.RevocationList {
		t.Helper()
		data, err := s.CRL()
		if err != nil {
			t.Fatal(err)
		}
		var out []*x509.RevocationList
		for _, root := range s.cfg.Authority.Roots() {
			block, rest := pem.Decode(data)
			list, err := x509.ParseRevocationList(block.Bytes)
			if err != nil || list.CheckSignatureFrom(root) != nil || list.NextUpdate.Before(s.clock.now().Add(365*day)) {
				t.Fatalf("list = %+v, %v", list, err)
			}
			out, data = append(out, list), rest
		}
		return out
	}
	before := lists()
	if err := s.Remove("n1", "ann"); err != nil {
		t.Fatal(err)
	}
	for i, list := range lists() {
		entries := list.RevokedCertificateEntries
		if len(entries) != 1 || entries[0].SerialNumber.Cmp(d.cert.SerialNumber) != 0 ||
			len(before[i].RevokedCertificateEntries) != 0 ||
			list.Number.Cmp(before[i].Number) <= 0 {
			t.Errorf("list %d: %+v", i, entries)
		}
	}
}

func TestTheClusterAgentsOwnCertificateIsRenewed(t *testing.T) {
	s := newSite(t, nil)
	first, err := s.ClusterCertificate()
	if err != nil {
		t.Fatal(err)
	}
	who, err := s.Authorize(first.Leaf)
	if err != nil || who.Kind != mqtt.ClusterIdentity || who.Name != "c1" {
		t.Errorf("Authorize = %+v, %v", who, err)
	}
	if again, _ := s.ClusterCertificate(); again != first {
		t.Error("made anew without a cause")
	}
	s.clock.add(61 * day)
	if again, err := s.ClusterCertificate(); err != nil || again == first {
		t.Errorf("not made anew at two thirds of its life: %v", err)
	}
}

func TestExpiriesAreListedSoonestFirst(t *testing.T) {
	s := newSite(t, nil)
	d := s.device(t)
	d.enroll(t, s.token(t, TokenSpec{}), "n1")
	spec := OperatorSpec{Name: "ann", Role: api.RoleViewer, CSR: csrOf(t, d.key), TTL: day}
	if _, err := s.IssueOperator(spec); err != nil {
		t.Fatal(err)
	}
	got, err := s.Expiries()
	if err != nil || len(got) != 3 || got[0].Kind != "operator" || got[1].Kind != "node" || got[1].Name != "n1" ||
		got[2].Kind != "ca" {
		t.Errorf("Expiries = %+v, %v", got, err)
	}
}

// TestTheBrokersListenerTakesGoodCertificatesOnly dials the listener of BrokerTLS.
func TestTheBrokersListenerTakesGoodCertificatesOnly(t *testing.T) {
	s := newSite(t, nil)
	l, err := NewListener(s.cfg.Authority, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := tls.Listen("tcp", "127.0.0.1:0", s.BrokerTLS(l))
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			if err := conn.(*tls.Conn).HandshakeContext(t.Context()); err == nil {
				_, _ = conn.Write([]byte("in"))
			}
			conn.Close()
		}
	}()
	dial := func(d *device, version uint16) error {
		config := &tls.Config{RootCAs: s.cfg.Authority.Pool(), Time: s.clock.now, MaxVersion: version}
		if d.cert != nil {
			config.Certificates = []tls.Certificate{{Certificate: [][]byte{d.cert.Raw}, PrivateKey: d.key}}
		}
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", tcp.Addr().String(), config)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Read(make([]byte, 2)) // in TLS 1.3 a client learns of its refusal when it reads
		return err
	}
	d := s.device(t)
	if dial(d, 0) == nil {
		t.Error("a client without a certificate got in")
	}
	d.enroll(t, s.token(t, TokenSpec{}), "n1")
	if err := dial(d, 0); err != nil {
		t.Error(err)
	}
	if dial(d, tls.VersionTLS12) == nil {
		t.Error("TLS 1.2 was spoken")
	}
	s.clock.add(91 * day)
	if dial(d, 0) == nil {
		t.Error("an expired certificate got in")
	}
	s.clock.add(-91 * day)
	if err := s.Remove("n1", "ann"); err != nil {
		t.Fatal(err)
	}
	if dial(d, 0) == nil {
		t.Error("a removed node got in")
	}
}

func TestAStoreWithoutItsAuthorityIsRefused(t *testing.T) {
	s := newSite(t, nil)
	cfg := s.cfg
	var err error
	cfg.Authority, err = OpenAuthority(t.Context(), AuthorityConfig{Dir: filepath.Join(t.TempDir(), "fresh"),
		Cluster: "c1", Now: s.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = Open(cfg); err == nil || !strings.Contains(err.Error(), s.cfg.Authority.SHA256()) ||
		!strings.Contains(err.Error(), "restore the CA directory") {
		t.Errorf("Open with a fresh CA: %v", err)
	}
}

// TestARemovalThatOvertakesAReplyIsNotUndone replays a reply that was decided before a removal and delivered after it.
func TestARemovalThatOvertakesAReplyIsNotUndone(t *testing.T) {
	s := newSite(t, nil)
	d := s.device(t)
	d.enroll(t, s.token(t, TokenSpec{}), "n1")
	decided := nodeRecord{ID: "n1", Key: keyDigest(d.cert), Certs: []certRecord{recordOf(d.cert, s.clock.now())}}
	if err := s.Remove("n1", "ann"); err != nil {
		t.Fatal(err)
	}
	_, err := s.deliver(decided, s.clock.now())
	wantCode(t, "the late reply", err, CodeNodeRemoved)
	if n := len(s.registry.enrolled); n != 1 {
		t.Errorf("the registry was told of the node %d times; wanted 1, before the removal", n)
	}
}
