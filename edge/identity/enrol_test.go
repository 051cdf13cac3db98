package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/exchange"
	"github.com/skerry-edge/skerry/test/enrolment"
)

func TestEnrolmentEndsWithACertificateForTheDevicesOwnKey(t *testing.T) {
	s := (&enrolment.Service{Now: noon}).Start(t)
	n := joining(t, s)
	n.cfg.Labels = map[string]string{"site": "mole"}
	n.cfg.Client.Host = api.Host{Hostname: "PUMP-3.local"}
	id := n.enrolled()
	if id.Node != "pump-3" || id.Cluster != "c" || !slices.Equal(id.Endpoints, []string{s.URL}) || len(id.OrderPublicKeys()) != 1 {
		t.Errorf("identity %+v", id)
	}
	if _, err := id.Leaf().Verify(verifying(s)); err != nil {
		t.Errorf("certificate: %v", err)
	}
	asked := s.Asked()
	if len(asked) != 1 || asked[0].Secret != "s3cr3t" || asked[0].TokenID != "token-1" || asked[0].Labels["site"] != "mole" ||
		asked[0].Host.Hostname != "PUMP-3.local" {
		t.Errorf("asked %+v", asked)
	}
	again, err := Load(n.dir)
	if err != nil || again.Describe() != id.Describe() || again.Key != id.Key {
		t.Errorf("kept %v, error %v; wanted what is in use", again, err)
	}
	n.enrolled()
	if len(s.Asked()) != 1 {
		t.Error("a node with a certificate asked for another enrolment")
	}
	if strings.Contains(n.log.String(), "s3cr3t") {
		t.Errorf("the log tells the token's secret:\n%s", &n.log)
	}
}

func verifying(s *enrolment.Service) x509.VerifyOptions {
	return x509.VerifyOptions{Roots: s.CA.Pool(), CurrentTime: s.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

// TestALostReplyIsAskedForAgainWithTheSameKey kills the node between the question and the answer.
func TestALostReplyIsAskedForAgainWithTheSameKey(t *testing.T) {
	s := &enrolment.Service{Now: noon}
	asking := make(chan struct{}, 8)
	var works atomic.Bool
	s.Enroll = func(r *api.EnrollRequest) (*api.EnrollReply, *api.Problem) {
		if works.Load() {
			return s.Issue(r.Node, r.CSR), nil
		}
		asking <- struct{}{}
		return nil, refusal(http.StatusBadGateway, "lost", "")
	}
	n := joining(t, s.Start(t))
	k, err := NewKeeper(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	<-asking
	cancel()
	if err := <-done; err != nil {
		t.Errorf("a stop while enrolling: %v", err)
	}
	before, err := Load(n.dir)
	if err != nil || before.Enrolled() {
		t.Fatalf("identity %v, error %v; wanted a key alone", before, err)
	}
	works.Store(true)
	if id := n.enrolled(); id.Key != before.Key {
		t.Error("the second attempt made another key: the token's use is lost with the first")
	}
}

// TestWithoutAnIDOfItsOwnADeviceAsksForNoneAndTakesWhatItIsGiven loses the first answer. The key may be one that an earlier
// version kept beside an id that it had made itself.
func TestWithoutAnIDOfItsOwnADeviceAsksForNoneAndTakesWhatItIsGiven(t *testing.T) {
	for name, begun := range map[string]string{"a new key": "", "a key with an id": "vm"} {
		t.Run(name, func(t *testing.T) {
			var tries atomic.Int32
			s := &enrolment.Service{Now: noon}
			s.Enroll = func(r *api.EnrollRequest) (*api.EnrollReply, *api.Problem) {
				if tries.Add(1) == 1 {
					return nil, refusal(http.StatusBadGateway, "lost", "")
				}
				reply := s.Issue("vm-0badcafe", r.CSR)
				reply.Message = "its host name vm is another's"
				return reply, nil
			}
			n := joining(t, s.Start(t))
			n.cfg.Node, n.cfg.Client.Host = "", api.Host{Hostname: "vm"}
			first, err := New(begun)
			if err != nil {
				t.Fatal(err)
			}
			if err := first.Save(n.dir); err != nil {
				t.Fatal(err)
			}
			id := n.enrolled()
			kept, err := Load(n.dir)
			if err != nil || id.Node != "vm-0badcafe" || kept.Node != id.Node || kept.Key != first.Key {
				t.Errorf("is %s, kept %+v, error %v; wanted the id that it was given, with the key that it had", id.Node, kept, err)
			}
			for _, r := range s.Asked() {
				if r.Node != "" || r.Host.Hostname != "vm" {
					t.Errorf("asked for %q as %q; wanted no id, and the host name", r.Node, r.Host.Hostname)
				}
			}
			n.run(func(k *Keeper) {
				if k.Trouble() != "" {
					t.Errorf("trouble after a restart: %s", k.Trouble())
				}
			})
			if strings.Count(n.log.String(), "its host name vm is another's") != 1 {
				t.Errorf("the log does not tell what the cluster said:\n%s", n.log.String())
			}
		})
	}
}

// TestAnIdentityKnowsTheJoinStringsOfItsCluster renews under another CA: the string that it joined with stays in its file.
func TestAnIdentityKnowsTheJoinStringsOfItsCluster(t *testing.T) {
	s := (&enrolment.Service{Now: noon}).Start(t)
	id := joining(t, s).enrolled()
	csr, err := id.CSR()
	if err != nil {
		t.Fatal(err)
	}
	first := s.CA.SHA256()
	s.CA = enrolment.NewCA(t, enrolment.Around(noon()))
	next, err := id.With(s.Issue(id.Node, csr), "")
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		id   *Identity
		pin  string
		want bool
	}{"its own": {id, first, true}, "another": {id, s.CA.SHA256(), false}, "of the new CA": {next, s.CA.SHA256(), true},
		"the first, after the CA was replaced": {next, first, true}} {
		if err := c.id.Stray(c.pin); (err == nil) != c.want {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestADeviceThatWaitsForAPersonSaysSoAndAsksAgain(t *testing.T) {
	s := &enrolment.Service{Now: noon}
	approved := make(chan struct{})
	s.Enroll = func(r *api.EnrollRequest) (*api.EnrollReply, *api.Problem) {
		select {
		case <-approved:
			return s.Issue(r.Node, r.CSR), nil
		default:
			return &api.EnrollReply{Status: api.EnrollPending, RetryAfterMillis: 1, Message: "skerry approve pump-3", Time: api.At(noon())}, nil
		}
	}
	n := joining(t, s.Start(t))
	k, err := NewKeeper(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- k.Run(ctx) }()
	eventually(t, "the node says what it waits for", func() bool { return strings.Contains(k.Trouble(), "skerry approve pump-3") })
	close(approved)
	<-k.Ready()
	if k.Trouble() != "" {
		t.Errorf("trouble after enrolment: %s", k.Trouble())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAServerThatIsNotThePinnedOneIsToldNothing(t *testing.T) {
	now := noon()
	ca := enrolment.NewCA(t, enrolment.Around(now))
	bare := ca.Server(enrolment.Around(now), "127.0.0.1")
	bare.Certificate = bare.Certificate[:1]
	server := func(span enrolment.Span, names ...string) *enrolment.Service {
		cert := ca.Server(span, names...)
		return &enrolment.Service{Now: noon, CA: ca, Cert: &cert}
	}
	for name, c := range map[string]struct {
		service *enrolment.Service
		pin     string
		wanted  func(error) bool
	}{
		"another CA": {&enrolment.Service{Now: noon}, ca.SHA256(), func(err error) bool {
			pin, ok := errors.AsType[*PinError](err)
			return ok && len(pin.Seen) == 2 && pin.Wanted == ca.SHA256() && strings.Contains(err.Error(), pin.Seen[1])
		}},
		"a chain without its CA": {&enrolment.Service{Now: noon, CA: ca, Cert: &bare}, ca.SHA256(), func(err error) bool {
			pin, ok := errors.AsType[*PinError](err)
			return ok && len(pin.Seen) == 1
		}},
		"another name": {server(enrolment.Around(now), "cluster.example"), ca.SHA256(), func(err error) bool {
			_, ok := errors.AsType[x509.HostnameError](err)
			return ok
		}},
		"not valid yet": {server(enrolment.Span{From: now.Add(time.Hour), To: now.Add(2 * time.Hour)}, "127.0.0.1"), ca.SHA256(), expired},
		"expired":       {server(enrolment.Span{From: now.Add(-2 * time.Hour), To: now.Add(-time.Hour)}, "127.0.0.1"), ca.SHA256(), expired},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.service.Start(t)
			n := joining(t, s)
			join := s.Join()
			join.CASHA256 = c.pin
			id, err := New("pump-3")
			if err != nil {
				t.Fatal(err)
			}
			csr, err := id.CSR()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := n.cfg.Client.Enroll(t.Context(), &join, &api.EnrollRequest{CSR: csr}); !c.wanted(err) {
				t.Errorf("error %v", err)
			}
			if asked := s.Asked(); len(asked) != 0 {
				t.Errorf("the secret was sent all the same: %+v", asked)
			}
		})
	}
}

func expired(err error) bool {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == x509.Expired
}

func TestEndpointsAreTriedInOrderUntilOneAnswers(t *testing.T) {
	closed := httptest.NewTLSServer(http.NotFoundHandler())
	closed.Close()
	busy := (&enrolment.Service{Now: noon, Enroll: func(*api.EnrollRequest) (*api.EnrollReply, *api.Problem) {
		return nil, refusal(http.StatusTooManyRequests, "too_many_requests", "")
	}}).Start(t)
	refusing := (&enrolment.Service{Now: noon, CA: busy.CA, Enroll: func(*api.EnrollRequest) (*api.EnrollReply, *api.Problem) {
		return nil, refusal(http.StatusUnauthorized, "token_invalid", "")
	}}).Start(t)
	elsewhere := (&enrolment.Service{Now: noon, CA: busy.CA, Enroll: func(*api.EnrollRequest) (*api.EnrollReply, *api.Problem) {
		return nil, refusal(http.StatusMisdirectedRequest, "node_elsewhere", "")
	}}).Start(t)
	good := (&enrolment.Service{Now: noon, CA: busy.CA}).Start(t)
	for name, c := range map[string]struct {
		endpoints []string
		wanted    func(error) bool
		goodAsked int
	}{
		"a dead one is passed":    {[]string{closed.URL, good.URL}, func(err error) bool { return err == nil }, 1},
		"a busy one is passed":    {[]string{busy.URL, good.URL}, func(err error) bool { return err == nil }, 1},
		"another replica's":       {[]string{elsewhere.URL, good.URL}, func(err error) bool { return err == nil }, 1},
		"a refusal ends it":       {[]string{refusing.URL, good.URL}, func(err error) bool { return isProblem(err, "token_invalid") }, 0},
		"the first is enough":     {[]string{good.URL, refusing.URL}, func(err error) bool { return err == nil }, 1},
		"all failures are told":   {[]string{closed.URL, busy.URL}, func(err error) bool { return tells(err, "refused", "too_many_requests") }, 0},
		"one that is no URL":      {[]string{"https://%zz", good.URL}, func(err error) bool { return err == nil }, 1},
		"none is an error itself": {nil, func(err error) bool { return tells(err, "no enrolment endpoint") }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(good.Asked())
			join := good.Join()
			join.Endpoints = c.endpoints
			id, err := New("pump-3")
			if err != nil {
				t.Fatal(err)
			}
			csr, err := id.CSR()
			if err != nil {
				t.Fatal(err)
			}
			client := &Client{Clock: (&watch{at: noon()}).believed()}
			if _, err := client.Enroll(t.Context(), &join, &api.EnrollRequest{Node: "pump-3", CSR: csr}); !c.wanted(err) {
				t.Errorf("error %v", err)
			}
			if asked := len(good.Asked()) - before; asked != c.goodAsked {
				t.Errorf("the good endpoint was asked %d times; wanted %d", asked, c.goodAsked)
			}
		})
	}
}

func tells(err error, words ...string) bool {
	return err != nil && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(err.Error(), w) })
}

// TestTheServersTimeSetsAClockThatIsBehind has a device wake in 1970, its kernel knowing no better.
func TestTheServersTimeSetsAClockThatIsBehind(t *testing.T) {
	built := noon().Add(-300 * 24 * time.Hour)
	for name, c := range map[string]struct {
		system time.Time
		synced bool
		wanted time.Time
	}{
		"1970":                               {time.Unix(5, 0), false, noon()},
		"1970, though the kernel vouches":    {time.Unix(5, 0), true, noon()},
		"an hour slow, nobody vouches":       {noon().Add(-time.Hour), false, noon()},
		"an hour fast, nobody vouches":       {noon().Add(time.Hour), false, noon()},
		"an hour fast, but the kernel knows": {noon().Add(time.Hour), true, noon().Add(time.Hour)},
		"a second off is left alone":         {noon().Add(time.Second), false, noon().Add(time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			s := (&enrolment.Service{Now: noon}).Start(t)
			n := joining(t, s)
			n.cfg.Client.Clock = agent.NewClock(built, agent.ClockSource{System: func() time.Time { return c.system },
				Boot: func() time.Duration { return time.Minute }, Synced: func() bool { return c.synced }})
			n.enrolled()
			if got := n.cfg.Client.Clock.Now(); got.Sub(c.wanted).Abs() > 6*time.Second {
				t.Errorf("time is %s; wanted %s", got.UTC(), c.wanted)
			}
		})
	}
}

func TestARefusedEnrolmentIsToldAndTriedAgain(t *testing.T) {
	s := &enrolment.Service{Now: noon}
	s.Enroll = func(r *api.EnrollRequest) (*api.EnrollReply, *api.Problem) {
		if len(s.Asked()) == 1 {
			return nil, refusal(http.StatusForbidden, "token_expired", "make a new one")
		}
		return s.Issue(r.Node, r.CSR), nil
	}
	n := joining(t, s.Start(t))
	failed := make(chan error, 8)
	n.cfg.OnFail = func(_ context.Context, err error) { failed <- err }
	n.enrolled()
	if err := <-failed; !isProblem(err, "token_expired") || !tells(err, "make a new one", "pump-3") {
		t.Errorf("told %v", err)
	}
}

func TestAReplyThatDoesNotFitIsRefused(t *testing.T) {
	s := (&enrolment.Service{Now: noon}).Start(t)
	other := enrolment.NewCA(t, enrolment.Around(noon()))
	id, err := New("pump-3")
	if err != nil {
		t.Fatal(err)
	}
	csr, err := id.CSR()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := New("pump-3")
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := stranger.CSR()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := id.With(s.Issue("pump-3", csr), s.CA.SHA256()); err != nil {
		t.Fatalf("a good reply: %v", err)
	}
	rotated := s.Issue("pump-3", csr)
	rotated.CA = other.PEM() + rotated.CA // the newest root first, the pinned one still there
	if _, err := id.With(rotated, s.CA.SHA256()); err != nil {
		t.Errorf("a bundle of two roots: %v", err)
	}
	for name, c := range map[string]struct {
		spoil func(r *api.EnrollReply)
		says  string
	}{
		"another's certificate": {func(r *api.EnrollReply) { r.Certificate = s.CA.Client(enrolment.Around(noon()), foreign) }, "not for this node's key"},
		"no certificate":        {func(r *api.EnrollReply) { r.Certificate = "" }, "no certificate"},
		"not PEM":               {func(r *api.EnrollReply) { r.Certificate = "abc" }, "no PEM block"},
		"a torn certificate":    {func(r *api.EnrollReply) { r.Certificate = strings.Replace(r.Certificate, "MII", "MIB", 1) }, "certificate:"},
		"no CA":                 {func(r *api.EnrollReply) { r.CA = "" }, "ca: no certificate"},
		"another CA":            {func(r *api.EnrollReply) { r.CA = other.PEM() }, "not the pinned one"},
		"no order key":          {func(r *api.EnrollReply) { r.OrderKeys = nil }, "orderKeys: none"},
		"a short order key":     {func(r *api.EnrollReply) { r.OrderKeys = []api.Base64URL{make([]byte, 31)} }, "31 bytes"},
		"a second, long one": {func(r *api.EnrollReply) {
			r.OrderKeys = append(r.OrderKeys, make([]byte, ed25519.PublicKeySize+1))
		}, "33 bytes"},
		"no broker":     {func(r *api.EnrollReply) { r.MQTT = nil }, "no broker"},
		"no endpoint":   {func(r *api.EnrollReply) { r.Endpoints = nil }, "no endpoint"},
		"an unfit node": {func(r *api.EnrollReply) { r.Node = "Pump 3" }, "node"},
		"no cluster":    {func(r *api.EnrollReply) { r.Cluster = "" }, "cluster"},
	} {
		reply := s.Issue("pump-3", csr)
		c.spoil(reply)
		if got, err := id.With(reply, s.CA.SHA256()); got != nil || !tells(err, "enrolment reply", c.says) {
			t.Errorf("%s: identity %v, error %v; wanted none, and %q", name, got, err, c.says)
		}
	}
}

func TestAnAnswerThatIsNoSkerryIsNoRefusal(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"a proxy's page":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"a login form":      func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) },
		"an endless answer": func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 2*maxReplyBytes)) },
	} {
		rec := httptest.NewRecorder()
		handler(rec, nil)
		reply, err := readReply(&exchange.Response{Code: rec.Code, Status: rec.Result().Status, Header: textproto.MIMEHeader(rec.Header()), Body: rec.Result().Body})
		if _, refused := errors.AsType[*api.Problem](err); reply != nil || err == nil || refused {
			t.Errorf("%s: reply %v, error %v; wanted an error after which the next endpoint is asked", name, reply, err)
		}
	}
}

func TestANodeThatIsRemovedAlreadyHasLeft(t *testing.T) {
	for code, left := range map[string]bool{"": true, api.CodeNodeRemoved: true, "certificate_revoked": false} {
		s := &enrolment.Service{Now: noon}
		if code != "" {
			s.Leave = func() *api.Problem { return refusal(http.StatusForbidden, code, "") }
		}
		n := joining(t, s.Start(t))
		if err := n.cfg.Client.Leave(t.Context(), n.enrolled()); (err == nil) != left {
			t.Errorf("answered %q: error %v; wanted it to have left: %v", code, err, left)
		}
	}
}
