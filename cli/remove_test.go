package cli

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func TestManyNodesAreRemovedWhenThatIsConfirmed(t *testing.T) {
	var removed []string
	routes := map[string]http.HandlerFunc{"/v1/nodes/n3": refuse(404), "/v1/nodes": func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Get("selector"); got != "site=a" {
			reply(api.List[api.Node]{})(w, r)
			return
		}
		reply(api.List[api.Node]{Items: []api.Node{{ID: "n1"}, {ID: "n2"}}})(w, r)
	}}
	for _, n := range []string{"n1", "n2"} {
		routes["/v1/nodes/"+n] = func(w http.ResponseWriter, r *http.Request) {
			removed = append(removed, n)
			w.WriteHeader(http.StatusNoContent)
		}
	}
	for name, c := range map[string]struct {
		args, answer string
		code         int
		removed      []string
	}{
		"one":           {"n1", "", ExitOK, []string{"n1"}},
		"twice the one": {"n1 n1", "", ExitOK, []string{"n1"}},
		"yes":           {"n1 n2", "y\n", ExitOK, []string{"n1", "n2"}},
		"no":            {"n1 n2", "\n", ExitError, nil},
		"nobody":        {"n1 n2", "", ExitUsage, nil},
		"flag":          {"n1 n3 n2 --yes", "", ExitNotFound, []string{"n1", "n2"}},
		"labels":        {"-l site=a --yes", "", ExitOK, []string{"n1", "n2"}},
		"labels, asked": {"-l site=a", "n\n", ExitError, nil},
		"none":          {"-l site=b --yes", "", ExitNotFound, nil},
		"neither":       {"--yes", "", ExitUsage, nil},
		"both":          {"n1 -l site=a --yes", "", ExitUsage, nil},
	} {
		removed = nil
		var out, errs bytes.Buffer
		app := &App{Out: &out, Err: &errs, In: strings.NewReader(c.answer), Now: time.Now, Env: newServer(t, routes)}
		code := app.Main(t.Context(), append([]string{"node", "remove"}, strings.Fields(c.args)...))
		if code != c.code || !slices.Equal(removed, c.removed) || strings.Count(out.String(), " removed\n") != len(removed) {
			t.Errorf("%s: exit %d, removed %v, %s%s; wanted %d, %v", name, code, removed, out.String(), errs.String(), c.code, c.removed)
		}
	}
}
