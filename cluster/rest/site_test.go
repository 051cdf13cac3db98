package rest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// stage is a site whose parts are as a test wants them.
type stage struct {
	mu       sync.Mutex
	audit    []api.AuditEntry
	watch    func(ctx context.Context, q WatchQuery, take func(api.Change) error) error
	logs     func(ctx context.Context, q LogQuery, w io.Writer) error
	get      func(ctx context.Context, w io.Writer) (string, error)
	put      func(ctx context.Context, u Upload, r io.Reader) error
	imported func(in io.Reader, name string) ([]api.Image, error)
	records  []api.CommandRecord
	page     Page
	orderer  func(req api.CommandRequest) ([]api.CommandRecord, error)
}

func (s *stage) Authenticate(r *http.Request) (Principal, error) {
	role := api.Role(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if !api.RoleAdmin.Includes(role) {
		return Principal{From: "there"}, &api.Problem{Status: http.StatusUnauthorized, Title: "who?", Code: "bearer_missing"}
	}
	return Principal{Name: "the-" + string(role), Role: role, From: "there"}, nil
}

func (s *stage) Audit(who Principal, action, object, result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.audit = append(s.audit, api.AuditEntry{By: who.Name, Role: who.Role, Action: action, Object: object, Result: result})
}

func (s *stage) AuditLog(Page) ([]api.AuditEntry, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.audit, "", nil
}

// entry takes the newest audit entry out.
func (s *stage) entry(t *testing.T) api.AuditEntry {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.audit) != 1 {
		t.Errorf("%d audit entries; wanted exactly one: %+v", len(s.audit), s.audit)
		s.audit = append(s.audit, api.AuditEntry{})
	}
	e := s.audit[len(s.audit)-1]
	s.audit = nil
	return e
}

var errStage = errors.New("no such thing on this stage")

func (s *stage) Nodes(string) ([]api.Node, error) { return []api.Node{{ID: "n1"}}, nil }
func (s *stage) Label(context.Context, string, map[string]string) (api.Node, error) {
	return api.Node{}, errStage
}
func (s *stage) Remove(context.Context, string, string) error { return errStage }
func (s *stage) Events(p Page) ([]api.EventRecord, string, error) {
	s.page = p
	return []api.EventRecord{{ID: 9}}, "9", nil
}
func (s *stage) Command(id string) (api.CommandRecord, error) {
	for _, rec := range s.records {
		if rec.ID == id {
			return rec, nil
		}
	}
	return api.CommandRecord{}, errStage
}
func (s *stage) Commands(p Page) ([]api.CommandRecord, string, error) {
	s.page = p
	return slices.Clone(s.records), "", nil
}

func (s *stage) Watch(ctx context.Context, q WatchQuery, take func(api.Change) error) error {
	return s.watch(ctx, q, take)
}

func (s *stage) Order(_ context.Context, req api.CommandRequest, _ Principal) ([]api.CommandRecord, error) {
	if s.orderer == nil {
		return nil, errStage
	}
	return s.orderer(req)
}

func (s *stage) Cancel(context.Context, string, Principal) (api.CommandRecord, error) {
	return api.CommandRecord{}, errStage
}

func (s *stage) CreateToken(context.Context, api.TokenRequest, string) (api.Token, error) {
	return api.Token{}, errStage
}
func (s *stage) Tokens() ([]api.Token, error)              { return nil, nil }
func (s *stage) RevokeToken(context.Context, string) error { return errStage }
func (s *stage) Enrollments() ([]api.Enrollment, error)    { return nil, nil }
func (s *stage) Approve(context.Context, string, string) (api.Enrollment, error) {
	return api.Enrollment{}, errStage
}
func (s *stage) Deny(context.Context, string, string) error { return errStage }
func (s *stage) CreateOperator(context.Context, api.OperatorRequest, string) (api.Operator, error) {
	return api.Operator{}, errStage
}
func (s *stage) Operators() ([]api.Operator, error)                   { return nil, nil }
func (s *stage) RevokeOperator(context.Context, string, string) error { return errStage }
func (s *stage) CreateAccess(context.Context, api.AccessRequest) (api.AccessToken, error) {
	return api.AccessToken{}, errStage
}
func (s *stage) AccessTokens() ([]api.AccessToken, error)   { return nil, nil }
func (s *stage) RevokeAccess(context.Context, string) error { return errStage }

func (s *stage) Logs(ctx context.Context, q LogQuery, _ Principal, w io.Writer) error {
	if s.logs == nil {
		return errStage
	}
	return s.logs(ctx, q, w)
}

func (s *stage) Get(ctx context.Context, _, _ string, _ Principal, w io.Writer) (string, error) {
	if s.get == nil {
		return "", errStage
	}
	return s.get(ctx, w)
}

func (s *stage) Put(ctx context.Context, u Upload, _ Principal, r io.Reader) error {
	if s.put == nil {
		return errStage
	}
	return s.put(ctx, u, r)
}

// stageImages is the stage's store of images.
type stageImages struct{ *stage }

func (s stageImages) List(context.Context) ([]api.Image, error) { return nil, nil }
func (s stageImages) Import(_ context.Context, in io.Reader, name string) ([]api.Image, error) {
	if s.imported == nil {
		return nil, errStage
	}
	return s.imported(in, name)
}
func (s stageImages) Remove(context.Context, string) error { return errStage }

// stageReleases is the stage's mirror of releases.
type stageReleases struct{ *stage }

func (s stageReleases) List(context.Context) ([]api.Release, error) { return nil, nil }
func (s stageReleases) Import(context.Context, io.Reader) (api.Release, error) {
	return api.Release{}, errStage
}
func (s stageReleases) Remove(context.Context, string, bool) error { return errStage }

// stageRollouts is the stage's rollouts.
type stageRollouts struct{ *stage }

func (s stageRollouts) List() []api.Rollout             { return nil }
func (s stageRollouts) Get(string) (api.Rollout, error) { return api.Rollout{}, errStage }
func (s stageRollouts) Create(api.RolloutSpec, Principal) (api.Rollout, error) {
	return api.Rollout{}, errStage
}
func (s stageRollouts) Assign(string, api.AgentRequest) (api.Node, error) {
	return api.Node{}, errStage
}
func (s stageRollouts) Unassign(string) (api.Node, error) { return api.Node{}, errStage }
func (s stageRollouts) Act(context.Context, string, string, Principal) (api.Rollout, error) {
	return api.Rollout{}, errStage
}

// theatre serves a stage over TLS with the time-outs of the real listener.
type theatre struct {
	*stage
	server *Server
	http   *httptest.Server
	close  context.CancelFunc
}

func open(t *testing.T, s *stage) *theatre {
	t.Helper()
	closing, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answerText(w, http.StatusOK, "ok\n") })
	th := &theatre{stage: s, close: cancel, server: New(Site{Gate: s, Fleet: s, Orders: s, Admission: s, Files: s, Images: stageImages{s}, Pulls: ok,
		Releases: stageReleases{s}, Release: ok, Rollouts: stageRollouts{s},
		Status: func() api.ClusterStatus { return api.ClusterStatus{Cluster: "c1"} },
		PromQL: ok, Enroll: ok, Metrics: ok, Ready: func() error { return errors.New("broker is not up") }, Closing: closing}, "1")}
	th.http = httptest.NewUnstartedServer(th.server)
	th.http.Config.ReadTimeout, th.http.Config.WriteTimeout = time.Minute, 2*time.Minute
	th.http.EnableHTTP2 = true
	th.http.StartTLS()
	t.Cleanup(th.http.Close)
	return th
}

// request is one call.
type request struct {
	method, path, body, kind string
	role                     api.Role
}

func (th *theatre) do(t *testing.T, q request) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), q.method, th.http.URL+q.path, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	if q.role != "" {
		req.Header.Set("Authorization", "Bearer "+string(q.role))
	}
	if q.kind != "" {
		req.Header.Set("Content-Type", q.kind)
	}
	resp, err := th.http.Client().Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", q.method, q.path, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", q.method, q.path, err)
	}
	return resp, string(raw)
}

// refused makes a call that has to be refused, and returns the problem.
func (th *theatre) refused(t *testing.T, q request) api.Problem {
	t.Helper()
	resp, text := th.do(t, q)
	var p api.Problem
	if err := json.Unmarshal([]byte(text), &p); err != nil || resp.Header.Get("Content-Type") != "application/problem+json" ||
		p.Status != resp.StatusCode || p.Status < 400 || p.Title == "" || p.Code == "" || p.Cure == "" {
		t.Errorf("%s %s: %s, %s, %s; wanted a problem with title, code and cure", q.method, q.path, resp.Status, resp.Header.Get("Content-Type"), text)
	}
	return p
}

// operation is one that the OpenAPI document has.
type operation struct{ method, path, id, role, audit string }

func operations(t *testing.T, s *Server) []operation {
	t.Helper()
	var out []operation
	for path, item := range s.api.OpenAPI().Paths {
		raw, err := json.Marshal(item)
		if err != nil {
			t.Fatal(err)
		}
		var methods map[string]struct {
			ID    string `json:"operationId"`
			Role  string `json:"x-role"`
			Audit string `json:"x-audit"`
		}
		if err := json.Unmarshal(raw, &methods); err != nil {
			t.Fatal(err)
		}
		for method, op := range methods {
			out = append(out, operation{strings.ToUpper(method), strings.NewReplacer("{id}", "x1").Replace(path), op.ID, op.Role, op.Audit})
		}
	}
	if len(out) < 25 {
		t.Fatalf("%d operations; the walk is broken", len(out))
	}
	return out
}
