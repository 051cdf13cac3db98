package edge

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/doctor"
	"github.com/skerry-edge/skerry/test/enrolment"
)

// missingUser writes a configuration whose line 3 names a user that no machine has, and returns its path and the fault.
func missingUser(t *testing.T) (file, fault string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "edge.yaml")
	text := "command:\n  exec:\n    - {name: x, argv: [/bin/true], user: no-such-user}\n    - {name: y, argv: [/bin/true], user: root}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, `command.exec[0].user "no-such-user" (` + file + `:3): wanted a user of this machine`
}

func TestConfigTellsOfAUserThatIsMissingAndThatRunGoesOn(t *testing.T) {
	file, fault := missingUser(t)
	exit, out, errs := door(t, t.TempDir(), "config", "--config", file)
	if exit != ExitMissing || strings.Count(errs, "wanted") != 1 || !strings.Contains(errs, "run takes all the same:\n  "+fault+"\n") || !strings.Contains(out, "no-such-user") {
		t.Errorf("exit %d, said %q", exit, errs)
	}
	exit, _, errs = door(t, t.TempDir(), "config", "--config", file, "--set", "autonomy=1s")
	if exit != ExitConfig || !strings.Contains(errs, fault) || !strings.Contains(errs, `autonomy "1s"`) {
		t.Errorf("with another fault: exit %d, said %q", exit, errs)
	}
	if exit, _, errs := door(t, t.TempDir(), "status", "--config", file); exit != ExitError || strings.Contains(errs, "no-such-user") { // no agent runs
		t.Errorf("status: exit %d, said %q", exit, errs)
	}
	exit, out, _ = door(t, t.TempDir(), "doctor", "--config", file)
	if exit == doctor.ExitConfiguration || !strings.Contains(out, "run takes it, but something is missing: "+fault) {
		t.Errorf("doctor: exit %d, said %q", exit, out)
	}
}

// TestAMissingUserIsAlarmedAboutAtAStartAndKeepsNothingElseFromWorking has the node go on with what it has, and what was set from afar stay.
func TestAMissingUserIsAlarmedAboutAtAStartAndKeepsNothingElseFromWorking(t *testing.T) {
	file, _ := missingUser(t)
	a := builtWith(t, (&enrolment.Service{}).Start(t), func(a *Agent) {
		a.src.File = file
		var err error
		if a.cfg, err = load(a.src); err != nil {
			t.Fatal(err)
		}
	})
	keepOverlay(t, a, overlays{Current: map[string]any{"autonomy": "4d"}})
	a.settings = anew(t, a)
	if got := a.settings.effective().Autonomy; got != 96*time.Hour {
		t.Errorf("autonomy %s; wanted what was set from afar", got)
	}
	if _, err := a.settings.set(t.Context(), order(time.Minute), map[string]any{"autonomy": "5d"}); err != nil { // nobody can mend it from afar
		t.Errorf("config.set of something else: %v", err)
	}
	before := a.outbox.Backlog().Events
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.settings.Run(ctx) }()
	a.settings.desire(&api.Desired{Generation: 9, Config: map[string]any{"autonomy": "6d"}})
	for end := time.Now().Add(20 * time.Second); a.settings.effective().Autonomy != 144*time.Hour; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("a desired configuration is not applied: %s", a.settings.state())
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := a.outbox.Backlog().Events - before; got != 2 { // and that settings changed
		t.Errorf("%d events; wanted the alarm", got)
	}
	for _, v := range a.verbs.list {
		if v.Spec().Name != "exec" {
			continue
		}
		if _, err := v.Prepare(map[string]any{"argv": []any{"x"}}); err == nil || !strings.Contains(err.Error(), "unknown user no-such-user") {
			t.Errorf("exec of it: %v; wanted that the user is missing", err)
		}
		if _, err := v.Prepare(map[string]any{"argv": []any{"y"}}); err != nil {
			t.Errorf("exec of another: %v", err)
		}
	}
}
