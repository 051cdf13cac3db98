package cluster

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

// TestEveryRouteTakesItsRole calls every operation that the running agent describes, with every kind of credential.
func TestEveryRouteTakesItsRole(t *testing.T) {
	r := newRig(t, nil)
	callers := map[api.Role][]caller{"": {{}, {token: "skat_made_up"}, {token: "no token at all"}, {cert: r.enrol("n1")}}}
	for _, role := range []api.Role{api.RoleViewer, api.RoleOperator, api.RoleAdmin} {
		callers[role] = []caller{r.access(role), {cert: r.operator("o-"+string(role), role)}}
	}
	var doc struct {
		Paths map[string]map[string]struct {
			ID   string   `json:"operationId"`
			Role api.Role `json:"x-role"`
		} `json:"paths"`
	}
	_, text := r.call(caller{}, "GET", "/openapi.json", "")
	if err := json.Unmarshal([]byte(text), &doc); err != nil || len(doc.Paths) < 15 {
		t.Fatalf("%v in %.200s", err, text)
	}
	calls := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if !api.RoleAdmin.Includes(op.Role) {
				t.Errorf("%s %s has no x-role", method, path)
				continue
			}
			for role, who := range callers {
				for i, c := range who {
					calls++
					status, text := r.call(c, strings.ToUpper(method), strings.ReplaceAll(path, "{id}", "nobody"), "")
					refused := status == http.StatusUnauthorized || status == http.StatusForbidden
					if refused == role.Includes(op.Role) || status == http.StatusInternalServerError {
						t.Errorf("%s as %q (%d): %d %s; it takes %s", op.ID, role, i, status, text, op.Role)
					}
				}
			}
		}
	}
	if calls < 250 {
		t.Errorf("only %d calls", calls)
	}
}

func (r *rig) audited() []api.AuditEntry {
	r.t.Helper()
	return must[api.List[api.AuditEntry]](r, "GET", "/v1/audit", nil).Items
}

func TestTheAuditLogTellsWhoWroteWhatNewestFirst(t *testing.T) {
	r := newRig(t, nil)
	viewer := r.access(api.RoleViewer)
	r.call(viewer, "DELETE", "/v1/nodes/n9", "")
	r.call(caller{cert: r.operator("carol", api.RoleAdmin)}, "DELETE", "/v1/nodes/n9", "")
	list := r.audited()
	last := list[0]
	if last.By != "carol" || last.Role != api.RoleAdmin || last.Via != "rest" || last.From != "127.0.0.1" || last.Action != "node.remove" ||
		last.Object != "n9" || !strings.Contains(last.Result, "n9") {
		t.Errorf("newest entry %+v", last)
	}
	if !slices.IsSortedFunc(list, func(a, b api.AuditEntry) int { return int(b.ID) - int(a.ID) }) {
		t.Error("the newest is not first")
	}
	i := slices.IndexFunc(list, func(e api.AuditEntry) bool { return e.By == "t-viewer" })
	if i < 0 || !strings.Contains(list[i].Result, "takes admin") {
		t.Errorf("the viewer's attempt is not there: %+v", list)
	}
}

func TestNobodyInParticularCannotFloodTheAuditLog(t *testing.T) {
	r := newRig(t, nil)
	before := len(r.audited())
	g := gate{r.Agent}
	for range 10 * strangersBurst {
		g.Audit(restPrincipal("", ""), "node.remove", "n1", "no access token was sent")
	}
	if n := len(r.audited()) - before; n < strangersBurst || n > strangersBurst+patienceEntries {
		t.Errorf("%d entries; wanted about %d", n, strangersBurst)
	}
	g.Audit(restPrincipal("t", api.RoleViewer), "node.remove", "n1", "not permitted")
	list := r.audited()
	if list[0].By != "t" {
		t.Error("somebody who is known was not written down")
	}
	if _, text := r.call(r.root(), "GET", "/metrics", ""); !strings.Contains(text, "skerry_cluster_audit_unwritten_total 8") &&
		!strings.Contains(text, "skerry_cluster_audit_unwritten_total 9") {
		t.Error("what was not written is not counted")
	}
}

func TestACertificateOfSomebodyRevokedIsNoGood(t *testing.T) {
	r := newRig(t, nil)
	cert := r.operator("dave", api.RoleAdmin)
	if status, text := r.call(caller{cert: cert}, "GET", "/v1/nodes", ""); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	must[struct{}](r, "DELETE", "/v1/operators/dave", nil)
	if status, text := r.call(caller{cert: cert}, "GET", "/v1/nodes", ""); status != http.StatusForbidden || !strings.Contains(text, "revoked") {
		t.Errorf("%d %s", status, text)
	}
	if _, err := r.tryConnect("operator-dave", cert); err == nil {
		t.Error("the broker let him in")
	}
}

func TestTheBearerSchemeIsNoMatterOfCase(t *testing.T) {
	r := newRig(t, nil)
	req, err := http.NewRequestWithContext(t.Context(), "GET", r.admin.Server+"/v1/nodes", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "bearer "+r.admin.Token)
	resp, err := r.client(nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close() != nil || resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}
