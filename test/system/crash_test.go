package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// told is the message of the first event of that kind about a version.
func (f *fleetOfOne) told(kind, version string) string {
	f.t.Helper()
	var events api.List[api.EventRecord]
	if err := f.get("/v1/events?node=n1&limit=1000", &events); err != nil {
		f.t.Fatal(err)
	}
	for _, e := range events.Items {
		if e.Kind == kind && e.Object == version {
			return e.Message
		}
	}
	return ""
}

// TestAProgramThatCrashesAfterItsTrialIsTakenBack states a version that shows its health, runs for a while, is killed, and from then on ends as soon as
// it is started.
func TestAProgramThatCrashesAfterItsTrialIsTakenBack(t *testing.T) {
	t.Parallel()
	f := newFleetOfOne(t)
	program, err := BuildEdge(t.Context(), f.dir, "2.0.0", "lite")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.dir, "broken")
	text := "#!/bin/sh\ncase \"$1\" in version) echo \"skerry-edge 2.0.0 (test)\"; exit 0;; config) exit 0;; esac\n" +
		"echo >>" + f.dir + "/starts\n[ -e " + f.dir + "/bad ] && exit 1\n" +
		"(sleep 30; : >" + f.dir + "/bad; kill -9 $$) &\nexec " + program + " \"$@\"\n"
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	f.publish("2.0.0", path)
	f.assign(api.AgentRequest{Version: "2.0.0"})
	poll(t, 2*time.Minute, "it has proved itself", func() error {
		if f.told("update.succeeded", "2.0.0") == "" {
			return errors.New("not yet")
		}
		return nil
	})
	if why := f.tells(api.AgentFailed, oldVersion); !strings.Contains(why, "after its trial it ended 5 times") {
		t.Errorf("reason %q", why)
	}
	f.sound(oldVersion)
	if got := f.told("update.failed", "2.0.0"); !strings.Contains(got, oldVersion+" is back") {
		t.Errorf("alarm %q", got)
	}
	if raw, err := os.ReadFile(f.dir + "/starts"); err != nil || len(raw) != 1+5 {
		t.Errorf("%d starts, %v; wanted one on trial and five", len(raw), err)
	}
}

// TestAnOutageDuringATrialCondemnsNoVersion has the cluster agent away until the trial of a good version, and then the program before it, could
// not connect. The version is tried again, and comes to its end.
func TestAnOutageDuringATrialCondemnsNoVersion(t *testing.T) {
	t.Parallel()
	f := newFleetOfOne(t)
	keeps := func(text string) error { // the state of its slots; an event would come when the trial has connected, and may be about to end well
		for _, name := range []string{"state.0", "state.1"} {
			if raw, err := os.ReadFile(filepath.Join(f.dir, "n1", "state", "update", name)); err == nil && strings.Contains(string(raw), text) {
				return nil
			}
		}
		return fmt.Errorf("no %s; agents: %v", text, f.agents())
	}
	f.assign(api.AgentRequest{Version: newVersion})
	poll(t, 2*time.Minute, "it switches", func() error { return keeps(`"trial":{`) })
	kill(t, f.cluster)
	poll(t, 3*time.Minute, "the trial is found to say nothing", func() error { return keeps(`"vain":true`) })
	start(t, f.cluster)
	f.online("n1")
	f.tells(api.AgentCurrent, newVersion)
	if got := f.told("update.failed", newVersion); !strings.Contains(got, oldVersion+" cannot connect either") {
		t.Errorf("alarm %q", got)
	}
	if n := f.trials(newVersion); n != 2 {
		t.Errorf("%d trials; wanted two", n)
	}
	f.sound(newVersion)
}
