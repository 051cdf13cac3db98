package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/skerry-edge/skerry/api"
)

// Server is the interface over a site.
type Server struct {
	site    Site
	api     huma.API
	mux     *http.ServeMux
	stalled time.Duration // how long a reader or sender may stand still in the middle of a stream
}

// stalledAfter is long enough for somebody who reads a log page by page.
const stalledAfter = 10 * time.Minute

// maxBodyBytes bounds a JSON request; files are streamed and bounded by the node.
const maxBodyBytes = 1 << 20

// New builds the routes. version goes into the OpenAPI document.
func New(site Site, version string) *Server {
	mux := http.NewServeMux()
	cfg := huma.DefaultConfig("Skerry cluster agent", version)
	cfg.Info.Description = "Nodes, commands, tokens and events of one cluster. Errors are RFC 9457 problems, each with a code for programs and a cure for people."
	cfg.CreateHooks = nil // no $schema links in answers: they are noise to people and scripts
	cfg.DocsPath = ""     // its page loads a script from elsewhere, which a site without internet cannot
	cfg.Formats = map[string]huma.Format{"application/json": strict(), "json": strict()}
	cfg.Transformers = append(cfg.Transformers, explain)
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":       {Type: "http", Scheme: "bearer", Description: "access token, as admin.yaml holds it"},
		"certificate": {Type: "mutualTLS", Description: "operator certificate"},
	}
	cfg.Security = []map[string][]string{{"token": {}}, {"certificate": {}}}
	s := &Server{site: site, mux: mux, stalled: stalledAfter}
	s.api = humago.New(mux, cfg)
	s.nodes()
	s.commands()
	s.admission()
	s.observation()
	s.streams()
	s.live()
	s.images()
	s.releases()
	s.rollouts()
	s.self()
	s.plain()
	s.describeErrors()
	return s
}

// OpenAPI returns the document of the interface in YAML.
func (s *Server) OpenAPI() ([]byte, error) { return s.api.OpenAPI().YAML() }

// plain adds the routes that are not REST: they speak for themselves and have documents of their own.
func (s *Server) plain() {
	s.mux.Handle("/api/v1/", s.guard(api.RoleViewer, s.site.PromQL))
	s.mux.Handle("GET /metrics", s.guard(api.RoleViewer, s.site.Metrics))
	for _, path := range []string{"GET /v1/images/{path...}", "GET /v2/{path...}"} { // the distribution API
		s.mux.Handle(path, s.site.Pulls)
	}
	s.mux.Handle("GET /v1/releases/{version}/{file}", s.site.Release)
	for _, path := range []string{"POST /v1/enroll", "POST /v1/renew", "POST /v1/leave", "GET /v1/ca", "GET /v1/time"} {
		s.mux.Handle(path, s.site.Enroll)
	}
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answerText(w, http.StatusOK, "ok\n") })
	s.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.site.Ready(); err != nil {
			answerText(w, http.StatusServiceUnavailable, err.Error()+"\n")
			return
		}
		answerText(w, http.StatusOK, "ok\n")
	})
}

func answerText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text)) // the caller has gone; there is nobody to tell
}

// ServeHTTP serves every route.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Strict-Transport-Security", "max-age=31536000")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if _, pattern := s.mux.Handler(r); pattern == "" {
		w = &unrouted{w, r}
	}
	s.mux.ServeHTTP(w, r)
}

// guard lets a plain handler be called by who has at least role.
func (s *Server) guard(role api.Role, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.allow(r, role); err != nil {
			writeProblem(w, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allow authenticates the caller and checks the role.
func (s *Server) allow(r *http.Request, role api.Role) (Principal, error) {
	who, err := s.site.Gate.Authenticate(r)
	if err != nil {
		return who, err
	}
	if !who.Role.Includes(role) {
		return who, &api.Problem{Status: http.StatusForbidden, Title: "not permitted", Code: "role",
			Detail: fmt.Sprintf("%s has role %s; this takes %s", who.Name, who.Role, role),
			Cure:   "ask an administrator: skerry access create NAME --role " + string(role)}
	}
	return who, nil
}

// visitKey carries the *visit in a request's context.
type visitKey struct{}

// visit is a request of somebody who may make it.
type visit struct {
	who     Principal
	entered bool   // it was good enough for its handler, which audits it
	refusal string // why it was not
}

// The keys under which the OpenAPI document tells the least role of an operation, and how its audit entries are called.
const (
	docRole  = "x-role"
	docAudit = "x-audit"
)

// route is an operation with the role it takes. Writes are audited under action; object names what they concern.
type route struct {
	method, path, id, summary, tag string
	role                           api.Role
	audit                          string // action; empty: not a write
	object                         string // path parameter that names what is concerned
}

// add registers an operation whose handler gets the caller.
func add[I, O any](s *Server, rt route, handle func(ctx context.Context, who Principal, in *I) (*O, error)) {
	op := huma.Operation{Method: rt.method, Path: rt.path, OperationID: rt.id, Summary: rt.summary, Tags: []string{rt.tag},
		MaxBodyBytes: maxBodyBytes, Description: "Takes role " + string(rt.role) + ".",
		Errors: []int{http.StatusUnauthorized, http.StatusForbidden}}
	op.Extensions = map[string]any{docRole: string(rt.role)}
	if rt.audit != "" {
		op.Extensions[docAudit] = rt.audit
	}
	op.Middlewares = huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		who, err := s.allow(r, rt.role)
		if err != nil {
			if rt.audit != "" {
				s.site.Gate.Audit(who, rt.audit, r.PathValue(rt.object), err.Error())
			}
			writeProblem(w, err)
			return
		}
		v := &visit{who: who}
		next(huma.WithValue(ctx, visitKey{}, v))
		if rt.audit != "" && !v.entered {
			s.site.Gate.Audit(who, rt.audit, r.PathValue(rt.object), v.refusal)
		}
	}}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		v, ok := ctx.Value(visitKey{}).(*visit)
		if !ok {
			return nil, errors.New("no principal")
		}
		v.entered = true
		return handle(ctx, v.who, in)
	})
}

// did audits a write and turns its error into a problem.
func (s *Server) did(who Principal, action, object string, err error) error {
	result := "ok"
	if err != nil {
		result = err.Error()
	}
	s.site.Gate.Audit(who, action, object, result)
	return problemOf(err)
}

// list is an answer that lists.
type list[T any] struct{ Body api.List[T] }

func listOf[T any](items []T, err error) (*list[T], error) {
	if err != nil {
		return nil, problemOf(err)
	}
	return pageOf(items, "", nil)
}

func pageOf[T any](items []T, next string, err error) (*list[T], error) {
	if err != nil {
		return nil, problemOf(err)
	}
	if items == nil {
		items = []T{} // [] in JSON, not null
	}
	return &list[T]{Body: api.List[T]{Items: items, Continue: next}}, nil
}

// one is an answer with one item.
type one[T any] struct{ Body T }

func oneOf[T any](item T, err error) (*one[T], error) {
	if err != nil {
		return nil, problemOf(err)
	}
	return &one[T]{Body: item}, nil
}
