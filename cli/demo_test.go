package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func TestTheDemoCutsNoLifeAndNoOutcome(t *testing.T) {
	record := func(phases ...api.Phase) api.CommandRecord {
		r := api.CommandRecord{Node: "demo-1", Verb: "exec", Args: map[string]any{"argv": []any{"/bin/uname", "-a"}}, Phase: phases[len(phases)-1]}
		for _, p := range phases {
			r.History = append(r.History, api.Transition{Phase: p})
		}
		r.Status = &api.Status{Phase: r.Phase}
		return r
	}
	good := record(api.PhaseQueued, api.PhaseDelivered, api.PhaseAccepted, api.PhaseRunning, api.PhaseSucceeded)
	good.Status.Output = "Linux " + strings.Repeat("word ", 40) + "end\n"
	bad := record(api.PhaseQueued, api.PhaseDelivered, api.PhaseRejected)
	bad.Status.Reason = "not permitted: " + strings.Repeat("why ", 40) + "so"
	for _, c := range []struct {
		r         api.CommandRecord
		life, end string
	}{{good, "\n    queued > delivered > accepted > running > succeeded\n", "end\n"}, {bad, "\n    queued > delivered > rejected\n", "so\n"}} {
		var b strings.Builder
		lifeOf(&b, c.r)
		out := b.String()
		if !strings.HasPrefix(out, "exec /bin/uname -a on demo-1\n") || !strings.Contains(out, c.life) || !strings.HasSuffix(out, c.end) || strings.Contains(out, "…") {
			t.Errorf("%s", out)
		}
		narrow(t, "demo", out)
	}
}

// The figures of a processor take two samples: a table that is printed once waits for them, or for the end.
func TestADemoWithoutATerminalPrintsItsTableOnceItIsWhole(t *testing.T) {
	for name, c := range map[string]struct {
		from int // the answer that has the first figure of the processor
		want string
	}{"whole": {2, "25%"}, "at the end": {1000, " - "}} {
		asked := 0
		env := newServer(t, map[string]http.HandlerFunc{
			"/v1/nodes": reply(api.List[api.Node]{Items: []api.Node{node("demo-1")}}),
			"/api/v1/query": func(w http.ResponseWriter, r *http.Request) {
				result := `[{"metric":{"node":"demo-1"},"value":[0,"0.25"]}]`
				if strings.Contains(r.URL.Query().Get("query"), "node_cpu") {
					if asked++; asked < c.from {
						result = "[]"
					}
				}
				fmt.Fprintf(w, `{"data":{"resultType":"vector","result":%s}}`, result)
			},
		})
		var out bytes.Buffer
		a := &App{Out: &out, Err: io.Discard, Env: env, Now: time.Now}
		client, _, err := a.client()
		if err != nil {
			t.Fatal(err)
		}
		err = a.showDemo(t.Context(), &demoSite{nodes: 1, client: client}, &demoFlags{format: "table", length: 2 * time.Second}, time.Now())
		if err != nil || strings.Count(out.String(), "NODE") != 1 || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: %v, printed %q; wanted one table with %q", name, err, out.String(), c.want)
		}
	}
}
