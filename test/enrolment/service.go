package enrolment

import (
	"cmp"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Service is an enrolment service over TLS 1.3. The zero fields are filled in by Start; the functions may be called at
// once from several goroutines.
type Service struct {
	CA    *CA              // signs the service's certificate, and those of nodes; good around Now when nil
	Cert  *tls.Certificate // the service's; for 127.0.0.1, around Now, when nil
	Now   func() time.Time // the service's clock; time.Now when nil
	Life  time.Duration    // of a node's certificate; 90 days when zero
	Order ed25519.PublicKey
	// Enroll and Renew answer in place of the service: a reply, or a problem. Nil issues what is asked for.
	Enroll func(*api.EnrollRequest) (*api.EnrollReply, *api.Problem)
	Renew  func(old *x509.Certificate, csr string) (*api.EnrollReply, *api.Problem)
	Leave  func() *api.Problem // nil lets the node go

	URL string // set by Start

	t      testing.TB
	mu     sync.Mutex
	asked  []api.EnrollRequest
	renews int
}

// Start serves until the test ends.
func (s *Service) Start(t testing.TB) *Service {
	t.Helper()
	s.t = t
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.CA == nil {
		s.CA = NewCA(t, Around(s.Now()))
	}
	if s.Cert == nil {
		cert := s.CA.Server(Around(s.Now()), "127.0.0.1")
		s.Cert = &cert
	}
	if s.Life == 0 {
		s.Life = 90 * 24 * time.Hour
	}
	if s.Order == nil {
		s.Order = make(ed25519.PublicKey, ed25519.PublicKeySize)
	}
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what tests are about
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*s.Cert}, ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Join is a join string for the service.
func (s *Service) Join() api.Join {
	now := s.Now()
	return api.Join{Endpoints: []string{s.URL}, CASHA256: s.CA.SHA256(), ID: "token-1", Secret: "s3cr3t", Issued: api.At(now),
		Expires: api.At(now.Add(time.Hour))}
}

// Asked returns the enrolments that were asked for.
func (s *Service) Asked() []api.EnrollRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// Renewals returns how many renewals were asked for.
func (s *Service) Renewals() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renews
}

// Issue makes the reply that certifies csr for node.
func (s *Service) Issue(node, csr string) *api.EnrollReply {
	now := s.Now()
	return &api.EnrollReply{Status: api.EnrollIssued, Node: node, Cluster: "c", Root: "skerry/v1", CA: s.CA.PEM(),
		Certificate: s.CA.Client(Span{now.Add(-time.Second), now.Add(s.Life)}, csr), MQTT: []string{"mqtts://127.0.0.1:8883"},
		Endpoints: []string{s.URL}, OrderKeys: []api.Base64URL{api.Base64URL(s.Order)}, Time: api.At(now)}
}

// ServeHTTP serves /v1/enroll, /v1/renew and /v1/leave.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var reply *api.EnrollReply
	var refusal *api.Problem
	switch r.URL.Path {
	case "/v1/enroll":
		var body api.EnrollRequest
		if json.NewDecoder(r.Body).Decode(&body) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		s.asked = append(s.asked, body)
		s.mu.Unlock()
		reply, refusal = s.enroll(&body)
	case "/v1/renew":
		var body api.RenewRequest
		if json.NewDecoder(r.Body).Decode(&body) != nil || len(r.TLS.PeerCertificates) == 0 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		s.renews++
		s.mu.Unlock()
		reply, refusal = s.renew(r.TLS.PeerCertificates[0], body.CSR)
	case "/v1/leave":
		if len(r.TLS.PeerCertificates) == 0 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if reply = (&api.EnrollReply{Status: api.EnrollLeft, Time: api.At(s.Now())}); s.Leave != nil {
			refusal = s.Leave()
		}
	default:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	var answer any = reply
	if refusal != nil {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(refusal.Status)
		answer = refusal
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		s.t.Logf("answer not delivered: %v", err)
	}
}

func (s *Service) enroll(r *api.EnrollRequest) (*api.EnrollReply, *api.Problem) {
	switch {
	case s.Enroll != nil:
		return s.Enroll(r)
	case r.CheckOnly:
		return &api.EnrollReply{Status: api.EnrollIssued, Node: r.Node, Time: api.At(s.Now())}, nil
	}
	return s.Issue(cmp.Or(r.Node, "chosen"), r.CSR), nil
}

func (s *Service) renew(old *x509.Certificate, csr string) (*api.EnrollReply, *api.Problem) {
	if s.Renew != nil {
		return s.Renew(old, csr)
	}
	return s.Issue(old.Subject.CommonName, csr), nil
}
