package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// run has a node do something over REST and returns how it ended.
func (f *field) run(node, verb string, args map[string]any, deadline time.Duration) api.CommandRecord {
	f.t.Helper()
	var made api.List[api.CommandRecord]
	req := api.CommandRequest{Nodes: []string{node}, Verb: verb, Args: args, Deadline: deadline.String()}
	if err := f.post("/v1/commands", req, &made); err != nil {
		f.t.Fatal(err)
	}
	rec := made.Items[0]
	poll(f.t, deadline+time.Minute, verb+" ends", func() error {
		if err := f.get("/v1/commands/"+rec.ID, &rec); err != nil {
			return err
		}
		if !rec.Final {
			return fmt.Errorf("it is %s", rec.Phase)
		}
		return nil
	})
	return rec
}

// configured waits until the node reports what came of the last change, and that its configuration is in force.
func (f *field) configured(node, last string) {
	f.t.Helper()
	poll(f.t, time.Minute, node+" reports "+last, func() error {
		var n api.Node
		if err := f.get("/v1/nodes/"+node, &n); err != nil {
			return err
		}
		if n.Reported == nil || n.Reported.Config.Last != last || n.Reported.Config.State != "applied" {
			return fmt.Errorf("reported %+v", n.Reported)
		}
		return nil
	})
}

func patch(section string, settings map[string]any) map[string]any {
	return map[string]any{"patch": map[string]any{section: settings}}
}

func TestSettingsTakeEffectOrSayWhyNot(t *testing.T) {
	t.Parallel()
	f := newField(t)
	node := f.node("set", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "")
	node.Args = append(node.Args, "--set", "log.level=info")
	start(t, node)
	f.online("set")
	for _, c := range []struct {
		section string
		values  map[string]any
		want    api.Phase
	}{
		{"telemetry", map[string]any{"interval": "3s"}, api.PhaseSucceeded},
		{"telemetry", map[string]any{"interval": "never"}, api.PhaseRejected},
		{"log", map[string]any{"level": "debug"}, api.PhaseRejected}, // a flag on the device wins: success would be a lie
		{"command", map[string]any{"allow_reboot": true}, api.PhaseRejected},
		{"outbox", map[string]any{"spill_after": "1s", "max_bytes": "1MiB"}, api.PhaseSucceeded},
		{"outbox", map[string]any{"max_bytes": "1KiB"}, api.PhaseRejected},
	} {
		if rec := f.run("set", "config.set", patch(c.section, c.values), time.Minute); rec.Phase != c.want {
			t.Errorf("%s %v: %s, %+v; wanted %s", c.section, c.values, rec.Phase, rec.Status, c.want)
		}
	}
	f.configured("set", "rejected") // the last attempt; what was applied before is in force, and told without a reconnect
	poll(t, time.Minute, "the birth follows the setting", func() error {
		var n api.Node
		if err := f.get("/v1/nodes/set", &n); err != nil || n.Birth.IntervalMillis != 3000 {
			return fmt.Errorf("interval is %d ms, error %w", n.Birth.IntervalMillis, err)
		}
		return nil
	})
	kill(t, f.cluster)
	poll(t, 50*time.Second, "the backlog is in flash, a minute before it would be by default", func() error {
		_, err := os.Stat(filepath.Join(f.dir, "set", "state", "outbox.db"))
		return err
	})
	start(t, f.cluster)
	f.online("set")
	kill(t, node) // what was set survives
	start(t, node)
	f.online("set")
	var n api.Node
	poll(t, time.Minute, "the probes follow the setting", func() error {
		if err := f.get("/v1/nodes/set", &n); err != nil {
			return err
		}
		if n.Birth.IntervalMillis != 3000 {
			return fmt.Errorf("interval is %d ms", n.Birth.IntervalMillis)
		}
		return nil
	})
}

// TestALinkThatDoesNotConnectIsTakenBack sets a broker that is not there.
func TestALinkThatDoesNotConnectIsTakenBack(t *testing.T) {
	t.Parallel()
	f := newField(t)
	start(t, f.node("trial", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, ""))
	f.online("trial")
	nowhere := patch("mqtt", map[string]any{"servers": []any{"mqtts://127.0.0.1:1"}})
	if rec := f.run("trial", "config.set", nowhere, 15*time.Second); rec.Phase != api.PhaseRejected || !strings.Contains(rec.Status.Reason, "wanted a deadline of") {
		t.Errorf("without time for its trial: %s, %+v", rec.Phase, rec.Status)
	}
	rec := f.run("trial", "config.set", nowhere, 40*time.Second) // 25 s at least when it arrives
	if rec.Phase != api.PhaseFailed || !strings.HasPrefix(rec.Status.Reason, "rolled back: ") {
		t.Errorf("a broker that is not there: %s, %+v; wanted failed, rolled back", rec.Phase, rec.Status)
	}
	f.online("trial")
	f.ping("trial")
	f.configured("trial", "rolled-back")
	if rec := f.run("trial", "config.set", patch("mqtt", map[string]any{"encoding": "cbor"}), 2*time.Minute); rec.Phase != api.PhaseSucceeded {
		t.Errorf("a link that does connect: %s, %+v", rec.Phase, rec.Status)
	}
	f.configured("trial", "applied")
	f.ping("trial")
}

func TestAnAgentRestartsWhenToldTo(t *testing.T) {
	t.Parallel()
	f := newField(t)
	start(t, f.node("again", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, ""))
	f.online("again")
	if rec := f.run("again", "agent.restart", nil, 2*time.Minute); rec.Phase != api.PhaseSucceeded {
		t.Errorf("restart: %s, %+v", rec.Phase, rec.Status)
	}
	f.ping("again")
}
