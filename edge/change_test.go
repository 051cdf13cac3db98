package edge

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/edge/command/verb"
	"github.com/skerry-edge/skerry/test/enrolment"
)

// anew is how the settings of a stand after its next start.
func anew(t *testing.T, a *Agent) *settings {
	t.Helper()
	s, err := newSettings(a)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASettingThatOnlyItsUserCanJudgeIsRefusedBeforeItIsKept(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	for _, c := range []struct {
		patch map[string]any
		says  []string
	}{
		{map[string]any{"telemetry": map[string]any{"disabled": []any{"nosuchprobe"}}}, []string{`telemetry.disabled[0] "nosuchprobe": wanted one of self, time`}},
		{map[string]any{"mqtt.servers": []any{"mqtts://u:secret@h:1/x"}}, []string{"mqtt.servers", "wanted mqtts://host:port"}},
		{map[string]any{"mqtt.servers": []any{"mqtts://h:99999"}}, []string{"mqtt.servers", "wanted mqtts://host:port"}},
		{map[string]any{"mqtt.keep_alive": "10500ms"}, []string{"in whole seconds"}},
		{map[string]any{"labels": []any{"a=1", "a=2"}}, []string{`labels "a=2": wanted each key once`}},
		{map[string]any{"labels": []any{"ü b=ü"}}, []string{`labels: key "ü b"; wanted a name`}},
		{map[string]any{"telemetry.disabled": []any{"x"}, "dir": "/d", "outbox.max_age": "1s"}, []string{"telemetry.disabled[0]", "dir cannot be set", "outbox.max_age"}},
	} {
		_, err := a.settings.set(t.Context(), order(time.Minute), c.patch)
		for _, want := range c.says {
			if !errors.Is(err, command.ErrRejected) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v: error %v; wanted a rejection that says %q", c.patch, err, want)
			}
		}
	}
	if s := anew(t, a); s.kept.Current != nil || s.left != "" {
		t.Errorf("kept %+v, %s; wanted nothing", s.kept, s.left)
	}
	if _, err := a.settings.set(t.Context(), order(time.Minute), map[string]any{"telemetry.disabled": []any{"hwmon"}}); err != nil {
		t.Errorf("a good one after them: %v", err)
	}
}

// TestSettingsThatCannotBePutInForceLeaveThoseFromBefore has a fault that is found only then.
func TestSettingsThatCannotBePutInForceLeaveThoseFromBefore(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	if _, err := a.settings.set(t.Context(), order(time.Minute), outboxPatch(map[string]any{"max_bytes": "1MiB"})); err != nil {
		t.Fatal(err)
	}
	before := a.settings.report()
	a.settings.read = func(src configs.Source) (configs.Edge, error) { return configs.LoadEdge(src) }
	bad := map[string]any{"telemetry.disabled": []any{"nosuchprobe"}, "log.level": "debug", "outbox.max_bytes": "2MiB"}
	_, err := a.settings.set(t.Context(), order(time.Minute), bad)
	if err == nil || !strings.Contains(err.Error(), "rolled back: disabled[0]") {
		t.Errorf("error %v; wanted one that says it was rolled back", err)
	}
	if got := a.outbox.Limits().MaxBytes; got != 1<<20 || a.level.Level() != 0 {
		t.Errorf("in force: %d bytes, level %s; wanted those from before", got, a.level.Level())
	}
	if now := a.settings.report(); now.Hash != before.Hash || now.State != "applied" || now.Last != "rolled-back" {
		t.Errorf("reported %+v; wanted %+v, rolled back", now, before)
	}
	if s := anew(t, a); s.left != "" || s.effective().Outbox.MaxBytes != 1<<20 {
		t.Errorf("at the next start: %s, %+v", s.left, s.effective().Outbox)
	}
	if _, err := a.settings.set(t.Context(), order(time.Minute), map[string]any{"autonomy": "3d"}); err != nil {
		t.Errorf("a good one after it: %v", err)
	}
}

// keepOverlay keeps settings as an earlier life of the agent, or another version of it, may have.
func keepOverlay(t *testing.T, a *Agent, o overlays) {
	t.Helper()
	raw, err := json.Marshal(o)
	if err == nil {
		err = a.store.SetOverlay(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestKeptSettingsThatDoNotBuildAreLeftOutAtTheStart(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	poison := map[string]any{"telemetry.disabled": []any{"nosuchprobe"}}
	keepOverlay(t, a, overlays{Current: poison, Generation: 7})
	s := anew(t, a)
	if !strings.Contains(s.left, "nosuchprobe") || len(s.effective().Telemetry.Disabled) > 0 || s.report().Last != "rejected" {
		t.Errorf("left out %q; in force %+v, %+v", s.left, s.effective().Telemetry, s.report())
	}
	if s.kept.Generation != 0 {
		t.Error("the desired configuration they came from would not be looked at again")
	}
	a.settings = s
	if err := a.buildProbes(s.effective()); err != nil {
		t.Errorf("the agent does not build: %v", err)
	}
	if _, err := s.set(t.Context(), order(time.Minute), map[string]any{"autonomy": "3d"}); err != nil || anew(t, a).left != "" {
		t.Errorf("a setting after them: %v", err)
	}
}

// TestATrialThatDoesNotLoadIsNeverTheRule: the link that comes up is that of the settings from before.
func TestATrialThatDoesNotLoadIsNeverTheRule(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	keepOverlay(t, a, overlays{Current: map[string]any{"autonomy": "4d"}, Trial: map[string]any{"mqtt.keep_alive": "soon"}})
	s := anew(t, a)
	if s.kept.Trial != nil || s.effective().Autonomy != 96*time.Hour || !strings.Contains(s.left, "mqtt.keep_alive") || s.report().State != "applied" {
		t.Errorf("kept %+v, in force %s, left out %q, %+v; wanted no trial, and those from before", s.kept, s.effective().Autonomy, s.left, s.report())
	}
}

func TestATrialThatARestartInterruptedHasTheRestOfItsWindow(t *testing.T) {
	now := time.Now()
	for left, want := range map[time.Duration]time.Duration{time.Hour: 90 * time.Second, 40 * time.Second: 40 * time.Second, time.Second: 15 * time.Second,
		-time.Hour: 15 * time.Second} {
		if got := defaultTrial().rest(api.At(now.Add(left)), now); (got - want).Abs() > time.Second {
			t.Errorf("%s left: %s; wanted %s", left, got, want)
		}
	}
	a := built(t, (&enrolment.Service{}).Start(t))
	a.settings.trial = trialTimes{window: time.Minute, least: 100 * time.Millisecond, reserve: time.Minute}
	a.settings.read = func(src configs.Source) (configs.Edge, error) {
		if len(src.Overlay) > 0 {
			if s := anew(t, a); s.kept.Trial != nil && s.kept.Until < api.At(time.Now().Add(-time.Minute)) {
				t.Errorf("kept %+v; wanted the end of the window", s.kept)
			}
		}
		return load(src)
	}
	_, err := a.settings.set(t.Context(), order(time.Minute+3*time.Second), map[string]any{"mqtt.servers": []any{"mqtts://127.0.0.1:1"}})
	if err == nil || !strings.Contains(err.Error(), "rolled back") {
		t.Error(err)
	}
}

// TestConfigFindsEveryFaultThatRunWouldEndOf has them all in one file, each with its line.
func TestConfigFindsEveryFaultThatRunWouldEndOf(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "edge.yaml")
	text := `telemetry:
  disabled: [nosuchprobe]
  user:
    - {name: a, kind: file, path: /x, metric: "bad name"}
    - {name: cpu, kind: file, path: /x}
    - {name: twin, kind: file, path: /x}
    - {name: twin, kind: file, path: /x}
    - {name: b, kind: prometheus, url: "http://example.org/metrics"}
    - {name: c, kind: prometheus, url: "http://127.0.0.1/metrics", allow: ["["]}
command:
  exec:
    - {name: a/b, argv: [/bin/true]}
    - {name: x, argv: [/bin/true], args: ["["]}
    - {name: x, argv: [/bin/true]}
    - {name: y, argv: [/bin/true], user: no-such-user}
mqtt:
  servers: ["mqtts://u:p@h:1/x"]
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	exit, _, errs := door(t, dir, "config", "--config", file)
	if exit != ExitConfig {
		t.Errorf("exit %d; wanted %d", exit, ExitConfig)
	}
	for _, want := range []string{`telemetry.disabled[0] "nosuchprobe" (` + file + `:2)`, `telemetry.user[0].metric "bad name" (` + file + `:4)`,
		`telemetry.user[1].name "cpu" (` + file + `:5)`, `telemetry.user[3].name "twin" (` + file + `:7)`, `telemetry.user[4].url "http://example.org/metrics" (` + file + `:8)`,
		`telemetry.user[5].allow[0] "[" (` + file + `:9)`, `command.exec[0].name "a/b" (` + file + `:12)`, `command.exec[1].args[0] "[" (` + file + `:13)`,
		`command.exec[2].name "x" (` + file + `:14)`, `command.exec[3].user "no-such-user" (` + file + `:15)`,
		`mqtt.servers "mqtts://u:xxxxx@h:1/x" (` + file + `:17)`} {
		if !strings.Contains(errs, want) {
			t.Errorf("no fault says %s in:\n%s", want, errs)
		}
	}
	if n := strings.Count(errs, ": wanted "); n != 11 {
		t.Errorf("%d faults; wanted eleven:\n%s", n, errs)
	}
}

// TestACommandWhoseTrialWasInterruptedTellsWhatCameOfIt is done anew after the restart, before Run looks at the trial or after it.
func TestACommandWhoseTrialWasInterruptedTellsWhatCameOfIt(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	patch := map[string]any{"mqtt.servers": []any{"mqtts://127.0.0.1:1"}}
	keepOverlay(t, a, overlays{Current: map[string]any{"autonomy": "4d"}, Trial: map[string]any{"mqtt.servers": []any{"mqtts://127.0.0.1:1"}}, Command: "c1"})
	a.settings = anew(t, a)
	a.settings.trial = trialTimes{window: 200 * time.Millisecond, least: 100 * time.Millisecond, reserve: time.Second}
	cmd := order(time.Minute)
	cmd.ID = "c1"
	link, _ := a.line.current()
	for _, when := range []string{"before Run", "after it"} {
		_, err := a.settings.set(t.Context(), cmd, patch)
		if err == nil || !strings.HasPrefix(err.Error(), "rolled back: node did not connect") || a.settings.kept.Trial != nil {
			t.Errorf("%s: %v, kept %+v; wanted that it was rolled back", when, err, a.settings.kept)
		}
		if now, _ := a.line.current(); when == "after it" && now != link {
			t.Error("the trial was begun anew")
		} else {
			link = now
		}
	}
	if a.settings.effective().Autonomy != 96*time.Hour {
		t.Errorf("in force %s; wanted what was kept before", a.settings.effective().Autonomy)
	}
	if c, err := verb.NewConfigSet(a.settings.set); err != nil || c.Spec().Restart != command.Retry {
		t.Error("the engine would not do it anew")
	}
}
