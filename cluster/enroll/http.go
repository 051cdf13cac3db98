package enroll

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// maxBody bounds a request: a PEM request and 64 labels fit in.
const maxBody = 64 << 10

// renewPath is the one path that an expired certificate may use.
const renewPath = "/v1/renew"

// Handler serves enrolment alone: Routes behind Guard.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	s.Routes(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, problem(http.StatusNotFound, CodePath, "", "there is no %.80q here", r.URL.Path))
	})
	return s.Guard(mux)
}

// Routes adds the paths of enrolment to mux, which must be served behind Guard:
//
//	POST /v1/enroll  api.EnrollRequest → api.EnrollReply
//	POST /v1/renew   api.RenewRequest, over TLS with a client certificate → api.EnrollReply
//	GET  /v1/ca      the roots, PEM, newest first; to be compared with the digest of a join string
//	GET  /v1/time    {"time": milliseconds}; unsigned, good for a diagnosis and no more
//	GET  /healthz    ok
func (s *Service) Routes(mux *http.ServeMux) {
	route := func(method, path string, h http.HandlerFunc) {
		mux.HandleFunc(method+" "+path, h)
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", method)
			s.refuse(w, problem(http.StatusMethodNotAllowed, CodeMethod, "", "%s of %s; wanted %s", r.Method, path, method))
		})
	}
	route(http.MethodPost, "/v1/enroll", s.serveEnroll)
	route(http.MethodPost, renewPath, s.serveRenew)
	route(http.MethodGet, "/v1/ca", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-pem-file")
		s.send(w, s.cfg.Authority.BundlePEM())
	})
	route(http.MethodGet, "/v1/time", func(w http.ResponseWriter, _ *http.Request) {
		s.answer(w, http.StatusOK, struct {
			Time api.Millis `json:"time"`
		}{api.At(s.now())})
	})
	route(http.MethodGet, "/healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		s.send(w, []byte("ok\n"))
	})
}

type identityKey struct{}

// IdentityFrom returns who Guard found a request to come from, and whether it showed a certificate at all.
func IdentityFrom(ctx context.Context) (mqtt.Identity, bool) {
	who, ok := ctx.Value(identityKey{}).(mqtt.Identity)
	return who, ok
}

// Guard lets a request pass that shows no client certificate, or one that Authorize accepts; who it is then is in the
// context (IdentityFrom). Only on the path of renewals it leaves the judgement to the handler.
func (s *Service) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || r.URL.Path == renewPath {
			next.ServeHTTP(w, r)
			return
		}
		who, err := s.Authorize(r.TLS.PeerCertificates[0])
		if err != nil {
			s.refuse(w, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, who)))
	})
}

func (s *Service) serveEnroll(w http.ResponseWriter, r *http.Request) {
	from := remote(r)
	if !s.welcome(w, from) {
		return
	}
	var body api.EnrollRequest
	if err := decode(w, r, &body); err != nil {
		s.refuse(w, err)
		return
	}
	reply, err := s.Enroll(&body, from.String())
	if err != nil {
		if p, ok := errors.AsType[*api.Problem](err); ok && p.Code == CodeTokenInvalid {
			s.limits.failed(from, s.now())
			s.cfg.Log.Warn("enrolment with an invalid token", agent.KeyAddr, from)
		}
		s.refuse(w, err)
		return
	}
	if reply.Status == api.EnrollPending {
		w.Header().Set("Retry-After", strconv.FormatInt(max(1, reply.RetryAfterMillis/1000), 10))
		s.answer(w, http.StatusAccepted, reply)
		return
	}
	s.answer(w, http.StatusOK, reply)
}

func (s *Service) serveRenew(w http.ResponseWriter, r *http.Request) {
	if !s.welcome(w, remote(r)) {
		return
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		s.refuse(w, problem(http.StatusUnauthorized, CodeCertMissing,
			"connect with the node's client certificate, expired or not",
			"no client certificate was shown"))
		return
	}
	var body api.RenewRequest
	if err := decode(w, r, &body); err != nil {
		s.refuse(w, err)
		return
	}
	reply, err := s.Renew(r.TLS.PeerCertificates[0], &body)
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.answer(w, http.StatusOK, reply)
}

// welcome asks the limiter, and answers when it says no.
func (s *Service) welcome(w http.ResponseWriter, from netip.Addr) bool {
	v := s.limits.admit(from, s.now())
	if v.code == "" {
		return true
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(v.wait.Seconds())))
	detail := "too many requests from this address"
	if v.code == CodeTooManyFailed {
		detail = "too many join attempts with an invalid token"
	}
	s.refuse(w, problem(http.StatusTooManyRequests, v.code, fmt.Sprintf("wait %s and ask again", v.wait), "%s", detail))
	return false
}

// remote is the address at the other end of the connection. A header that claims another is not believed.
func remote(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// decode reads one JSON object. Fields it does not know are ignored: a device may be newer than its cluster.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return problem(http.StatusRequestEntityTooLarge, CodeBodyTooLarge, "", "body has more than %d bytes", maxBody)
	}
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		return problem(http.StatusBadRequest, CodeBody, "", "body: %v", err)
	}
	return nil
}

// refuse answers with a problem (RFC 9457). What is not meant for the caller is logged here, and only here.
func (s *Service) refuse(w http.ResponseWriter, err error) {
	p, ok := errors.AsType[*api.Problem](err)
	if !ok {
		s.cfg.Log.Error("enrolment request failed", agent.KeyErr, err)
		p = problem(http.StatusInternalServerError, CodeInternal, "ask again; the log of the cluster agent tells more",
			"the cluster agent failed")
	}
	s.count(p.Code)
	if p.Cure == "" { // what a person can always do
		said := *p
		p, said.Cure = &said, "look at what was sent against docs/security.md; the log of the cluster agent tells more"
	}
	raw, err := json.Marshal(p)
	if err != nil { // strings and an integer only
		raw = nil
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	s.send(w, raw)
}

func (s *Service) answer(w http.ResponseWriter, status int, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		s.refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	s.send(w, raw)
}

func (s *Service) send(w http.ResponseWriter, data []byte) {
	if _, err := w.Write(data); err != nil {
		s.cfg.Log.Debug("answer not delivered", agent.KeyErr, err) // the device asks again
	}
}
