package rest

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

// bodies are good ones, by operation, so that a permitted call gets as far as the site.
var bodies = map[string]string{
	"patch-node":          `{"labels":{"a":"b"}}`,
	"create-command":      `{"nodes":["n1"],"verb":"ping","deadline":"10s"}`,
	"create-token":        `{"ttl":"1h","maxUses":1,"approval":false}`,
	"create-operator":     `{"name":"o","role":"viewer","csr":"x"}`,
	"create-access-token": `{"name":"o","role":"viewer"}`,
}

func TestEveryRouteTakesItsRoleAndEveryWriteIsAudited(t *testing.T) {
	th := open(t, &stage{watch: func(context.Context, WatchQuery, func(api.Change) error) error { return nil }})
	for _, op := range operations(t, th.server) {
		least := api.Role(op.role)
		if !api.RoleAdmin.Includes(least) {
			t.Errorf("%s %s: x-role %q; every operation has a role", op.method, op.path, op.role)
			continue
		}
		if op.method != http.MethodGet && op.audit == "" {
			t.Errorf("%s %s: a write without x-audit", op.method, op.path)
		}
		for _, role := range []api.Role{"", api.RoleViewer, api.RoleOperator, api.RoleAdmin} {
			resp, text := th.do(t, request{op.method, op.path, bodies[op.id], "application/json", role})
			status := resp.StatusCode
			switch {
			case role == "" && (status != http.StatusUnauthorized || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Bearer")):
				t.Errorf("%s as nobody: %d %s", op.id, status, text)
			case role != "" && !role.Includes(least) && (status != http.StatusForbidden || !strings.Contains(text, "takes "+op.role)):
				t.Errorf("%s as %s: %d %s; it takes %s", op.id, role, status, text, least)
			case role.Includes(least) && (status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusUnprocessableEntity):
				t.Errorf("%s as %s: %d %s; it takes %s", op.id, role, status, text, least)
			}
			if op.audit == "" {
				if len(th.audit) != 0 {
					t.Errorf("%s as %s: audited, but no write: %+v", op.id, role, th.audit)
					th.audit = nil
				}
				continue
			}
			e := th.entry(t)
			if e.Action != op.audit || e.Role != role || e.Result == "" || e.Result == "ok" {
				t.Errorf("%s as %s: audit entry %+v; wanted action %s with why it did not work", op.id, role, e, op.audit)
			}
			if strings.Contains(op.path, "x1") && !strings.Contains(e.Object, "x1") {
				t.Errorf("%s as %s: audit entry %+v does not say what it concerns", op.id, role, e)
			}
		}
	}
}

func TestPlainRoutesAreGuardedToo(t *testing.T) {
	th := open(t, &stage{})
	for _, path := range []string{"/api/v1/query?query=up", "/api/v1/labels", "/metrics"} {
		th.refused(t, request{"GET", path, "", "", ""})
		if resp, text := th.do(t, request{"GET", path, "", "", api.RoleViewer}); resp.StatusCode != http.StatusOK {
			t.Errorf("%s as viewer: %d %s", path, resp.StatusCode, text)
		}
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/v1/ca": 200, "/openapi.yaml": 200} {
		if resp, text := th.do(t, request{"GET", path, "", "", ""}); resp.StatusCode != want {
			t.Errorf("%s: %d %s; wanted %d", path, resp.StatusCode, text, want)
		}
	}
}

func TestNothingIsThere(t *testing.T) {
	th := open(t, &stage{})
	if p := th.refused(t, request{"GET", "/v1/nonsense", "", "", api.RoleAdmin}); p.Status != 404 || !strings.Contains(p.Detail, "/v1/nonsense") {
		t.Errorf("%+v", p)
	}
	if p := th.refused(t, request{"PUT", "/v1/nodes", "", "", api.RoleAdmin}); p.Status != 405 || !strings.Contains(p.Detail, "GET") {
		t.Errorf("%+v", p)
	}
	if resp, text := th.do(t, request{"HEAD", "/v1/nodes", "", "", ""}); resp.StatusCode != 401 || text != "" {
		t.Errorf("HEAD: %d %q", resp.StatusCode, text)
	}
}
