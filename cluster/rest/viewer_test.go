package rest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

// secretive is a command with a secret wherever one can be.
func secretive() api.CommandRecord {
	exit := 3
	return api.CommandRecord{ID: "k1", Node: "n1", Verb: "exec", Args: map[string]any{"argv": []any{"hunter2-args"}, "data": "hunter2-data"}, By: "rest:ann",
		Created: 1, Deadline: 2, Phase: api.PhaseFailed, Final: true,
		History: []api.Transition{{Phase: api.PhaseQueued, At: 1, Side: "cluster", Reason: "kept for the node"},
			{Phase: api.PhaseFailed, At: 2, Side: "node", Reason: "hunter2-reason"}},
		Status: &api.Status{ID: "k1", Phase: api.PhaseFailed, Epoch: 1, At: 2, Reason: "hunter2-reason", Progress: "hunter2-progress", Exit: &exit,
			Output: "hunter2-output", Truncated: 7, Result: map[string]any{"data": "hunter2-result"}}}
}

func TestAViewerSeesWhatBecameOfACommandAndNotWhatIsInIt(t *testing.T) {
	rec := secretive()
	th := open(t, &stage{records: []api.CommandRecord{rec}, watch: func(_ context.Context, _ WatchQuery, take func(api.Change) error) error {
		return take(api.Change{Kind: "command", Type: "modified", Command: &rec})
	}})
	for _, path := range []string{"/v1/commands", "/v1/commands/k1", "/v1/watch?kind=command"} {
		for _, role := range []api.Role{api.RoleViewer, api.RoleOperator, api.RoleAdmin} {
			_, text := th.do(t, request{"GET", path, "", "", role})
			for _, hidden := range []string{"args", "data", "output", "result", "progress", "reason"} {
				if got, want := strings.Contains(text, "hunter2-"+hidden), role != api.RoleViewer; got != want {
					t.Errorf("%s as %s: %s shown %t; wanted %t", path, role, hidden, got, want)
				}
			}
			for _, told := range []string{`"k1"`, `"n1"`, `"exec"`, "rest:ann", `"failed"`, `"exit":3`, `"truncated":7`, "kept for the node"} {
				if !strings.Contains(text, told) {
					t.Errorf("%s as %s does not tell %s: %s", path, role, told, text)
				}
			}
		}
	}
	if rec.Args == nil || rec.Status.Output == "" || rec.History[1].Reason == "" {
		t.Error("the journal's own record was changed")
	}
}

func TestTheAuditLogNamesVerbNodesAndCommands(t *testing.T) {
	made := func(nodes ...string) (out []api.CommandRecord) {
		for i, n := range nodes {
			out = append(out, api.CommandRecord{Node: n, ID: fmt.Sprintf("id%d", i)})
		}
		return out
	}
	many := make([]string, 500)
	for i := range many {
		many[i] = fmt.Sprintf("node-%04d", i)
	}
	mixed := made("n1", "n2")
	mixed[1] = api.CommandRecord{Node: "n2", Phase: api.PhaseRejected, Final: true}
	for name, c := range map[string]struct {
		req  api.CommandRequest
		out  []api.CommandRecord
		want string
	}{
		"one":      {api.CommandRequest{Verb: "exec", Nodes: []string{"n1"}}, made("n1"), "exec n1 id0"},
		"selector": {api.CommandRequest{Verb: "exec", Selector: "site=a"}, made("n1", "n2"), "exec -l site=a: n1 id0, n2 id1"},
		"mixed":    {api.CommandRequest{Verb: "exec", Nodes: []string{"n1", "n2"}}, mixed, "exec n1 id0, n2 rejected"},
		"refused":  {api.CommandRequest{Verb: "exec", Nodes: []string{"n1"}, ID: "mine"}, nil, "exec n1 mine"},
		"none":     {api.CommandRequest{Verb: "exec", Selector: "site=z"}, nil, "exec -l site=z"},
	} {
		if got := ordered(&c.req, c.out); got != c.want {
			t.Errorf("%s: %q; wanted %q", name, got, c.want)
		}
	}
	got := ordered(&api.CommandRequest{Verb: "exec", Selector: "="}, made(many...))
	if len(got) > api.MaxReasonBytes || !strings.HasPrefix(got, "exec -l =: node-0000 id0, node-0001 id1") || !strings.HasSuffix(got, " more") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

func TestListsHavePages(t *testing.T) {
	s := &stage{}
	th := open(t, s)
	for _, path := range []string{"/v1/events", "/v1/commands"} {
		if resp, text := th.do(t, request{"GET", path + "?limit=7&continue=42&node=n1", "", "", api.RoleViewer}); resp.StatusCode != 200 ||
			s.page.Limit != 7 || s.page.Continue != "42" || s.page.Node != "n1" {
			t.Errorf("%s: %d %s, asked for %+v", path, resp.StatusCode, text, s.page)
		}
	}
	if _, text := th.do(t, request{"GET", "/v1/events", "", "", api.RoleViewer}); !strings.Contains(text, `"continue":"9"`) || s.page.Limit != 500 {
		t.Errorf("%s, asked for %+v", text, s.page)
	}
	all := []api.Node{{ID: "a"}, {ID: "b"}, {ID: "d"}}
	for _, c := range []struct {
		after string
		limit int
		want  string
		next  string
	}{{"", 0, "abd", ""}, {"", 2, "ab", "b"}, {"b", 2, "d", ""}, {"c", 1, "d", ""}, {"d", 1, "", ""}, {"", 3, "abd", ""}} {
		page, next := nodesAfter(all, c.after, c.limit)
		got := ""
		for _, n := range page {
			got += n.ID
		}
		if got != c.want || next != c.next {
			t.Errorf("after %q, %d: %q then %q; wanted %q then %q", c.after, c.limit, got, next, c.want, c.next)
		}
	}
}
