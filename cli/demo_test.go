package cli

import (
	"strings"
	"testing"

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
