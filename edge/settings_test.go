package edge

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/edge/outbox"
	"github.com/skerry-edge/skerry/edge/store"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/test/enrolment"
)

// built returns an agent that is enrolled and built, but does not run: its link never comes up.
func built(t *testing.T, service *enrolment.Service) *Agent {
	t.Helper()
	return builtWith(t, service, func(*Agent) {})
}

// builtWith changes the agent before it is built.
func builtWith(t *testing.T, service *enrolment.Service, change func(*Agent)) *Agent {
	t.Helper()
	dir := t.TempDir()
	src := configs.Source{Flags: map[string]string{"node": "pump-3", "dir": filepath.Join(dir, "state"), "runtime_dir": filepath.Join(dir, "run")}}
	cfg, err := configs.LoadEdge(src)
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(cfg, src, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	change(a)
	a.clock = agent.NewClock(time.Time{}, agent.ClockSource{})
	if a.store, err = store.Open(cfg.Dir, a.clock.Now()); err != nil {
		t.Fatal(err)
	}
	a.keeper, err = identity.NewKeeper(identity.KeeperConfig{Dir: cfg.Dir, Node: "pump-3", Log: a.log,
		Join: func() (*api.Join, error) { return new(service.Join()), nil }, Client: &identity.Client{Clock: a.clock}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.keeper.Run(ctx) }()
	<-a.keeper.Ready()
	id := a.keeper.Current()
	topics, err := mqtt.NewTopics(id.Root, id.Cluster)
	if err != nil {
		t.Fatal(err)
	}
	a.topics.Store(&topics)
	if err := a.build(id); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, a.closeOutbox(), a.store.Close()); err != nil {
			t.Error(err)
		}
	})
	return a
}

// order is a command that has left until its deadline.
func order(left time.Duration) *api.Command {
	return &api.Command{Issued: api.At(time.Now()), Deadline: api.At(time.Now().Add(left))}
}

func outboxPatch(settings map[string]any) map[string]any { return map[string]any{"outbox": settings} }

func TestTheOutboxFollowsItsSettingsWithoutARestart(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	defaults := a.outbox.Limits()
	_, err := a.settings.set(t.Context(), order(time.Minute), outboxPatch(map[string]any{"max_bytes": "1MiB", "max_age": "2d", "memory_bytes": 131072.0,
		"spill_after": "5m", "replay_bytes_per_second": "8KiB"}))
	want := outbox.Limits{MaxBytes: 1 << 20, MaxAge: 48 * time.Hour, HotBytes: 128 << 10, SpillAfter: 5 * time.Minute, ReplayBytesPerSecond: 8 << 10}
	if got := a.outbox.Limits(); err != nil || got != want {
		t.Errorf("in force %+v, error %v; wanted %+v", got, err, want)
	}
	again, err := newSettings(a) // as at the next start
	if err != nil || again.effective().Outbox.MaxBytes != 1<<20 {
		t.Errorf("kept %+v, error %v", again.effective().Outbox, err)
	}
	if _, err := a.settings.set(t.Context(), order(time.Minute), outboxPatch(map[string]any{"max_bytes": nil})); err != nil {
		t.Error(err)
	}
	want.MaxBytes = defaults.MaxBytes
	if got := a.outbox.Limits(); got != want {
		t.Errorf("with one taken back %+v; wanted %+v", got, want)
	}
}

func TestASettingThatCannotBeIsRefusedWithItsReasonAndNothingChanges(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	if _, err := a.settings.set(t.Context(), order(time.Minute), map[string]any{"autonomy": "3d"}); err != nil {
		t.Fatal(err)
	}
	before, inForce := a.outbox.Limits(), a.settings.report()
	if inForce.State != "applied" || inForce.Last != "applied" || inForce.Reason != "" {
		t.Errorf("reported %+v", inForce)
	}
	for _, c := range []struct {
		key   string
		value any
		says  string
	}{
		{"outbox.max_bytes", "1KiB", "at least 256KiB"},
		{"outbox.max_bytes", "many", "wanted a size"},
		{"outbox.max_age", "1s", "at least 1m"},
		{"outbox.max_age", 7.0, "a duration with its unit"},
		{"outbox.memory_bytes", "1GiB", "64KiB to 256MiB"},
		{"outbox.spill_after", "0s", "at least 1s"},
		{"outbox.replay_bytes_per_second", 1.0, "at least 1KiB"},
		{"outbox.thin_floor", "1m", "there is no such setting"},
		{"outbox", "x", "there is no such setting"},
		{"dir", "/elsewhere", "open while the agent runs; stop it, move them"},
		{"runtime_dir", "/elsewhere", "open while the agent runs"},
		{"node", "pump-4", "join it again"},
		{"join", "skerry1.abc", "join it again"},
		{"command.allow_reboot", true, "decided on the device"},
		{"telemetry.user", []any{}, "decided on the device"},
		{"telemetry.proc", "/p", "change the file, then run agent.restart"},
		{"log.format", "json", "agent.restart"},
	} {
		patch := map[string]any{"outbox.spill_after": "2m", c.key: c.value} // a good one beside it is not applied either
		if _, err := a.settings.set(t.Context(), order(time.Minute), patch); !errors.Is(err, command.ErrRejected) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s=%v: error %v; wanted a rejection that says %q", c.key, c.value, err, c.says)
		}
		if st := a.settings.report(); st.State != "applied" || st.Hash != inForce.Hash || st.Last != "rejected" || !strings.Contains(st.Reason, c.says) {
			t.Errorf("%s=%v: reported %+v", c.key, c.value, st)
		}
	}
	if got := a.outbox.Limits(); got != before {
		t.Errorf("in force %+v; wanted %+v", got, before)
	}
}

// TestALinkThatFailsTakesTheWholeChangeBack changes the outbox and the link at once. The link cannot connect.
func TestALinkThatFailsTakesTheWholeChangeBack(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	before := a.outbox.Limits()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := a.settings.set(ctx, order(time.Minute), map[string]any{"outbox.max_bytes": "1MiB", "mqtt.servers": []any{"mqtts://127.0.0.1:1"}})
		done <- err
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(20 * time.Second); a.outbox.Limits().MaxBytes != 1<<20; {
		select {
		case <-end:
			t.Fatal("the trial never began")
		case <-tick.C:
		}
	}
	cancel() // as its deadline would
	if err := <-done; err == nil || !strings.Contains(err.Error(), "did not connect") {
		t.Errorf("error %v", err)
	}
	if got := a.outbox.Limits(); got != before || a.settings.report().Last != "rolled-back" || a.settings.report().State != "applied" {
		t.Errorf("in force %+v, %s; wanted %+v, rolled back", got, a.settings.state(), before)
	}
}

func TestALinkThatFailsIsTakenBackBeforeItsCommandIsOutOfTime(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	a.settings.trial = trialTimes{window: time.Minute, least: 100 * time.Millisecond, reserve: time.Minute}
	patch := map[string]any{"mqtt.servers": []any{"mqtts://127.0.0.1:1"}}
	start, cmd := time.Now(), order(time.Minute+3*time.Second) // nothing has to be done within less than that
	_, err := a.settings.set(t.Context(), cmd, patch)
	if err == nil || errors.Is(err, command.ErrRejected) || !strings.HasPrefix(err.Error(), "rolled back: node did not connect with them within ") {
		t.Errorf("error %v; wanted a failure that says it was rolled back", err)
	}
	if left := time.Until(cmd.Deadline.Time()); left < time.Second {
		t.Errorf("told %s before the deadline, after %s; wanted time for the way back", left, time.Since(start))
	}
	if st := a.settings.report(); st.Last != "rolled-back" || st.State != "applied" {
		t.Errorf("reported %+v", st)
	}
}

func TestAChangeOfTheLinkWithoutTimeForItsTrialIsRefusedAndNotBegun(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	link, _ := a.line.current()
	patch := map[string]any{"mqtt.servers": []any{"mqtts://127.0.0.1:1"}}
	behind := order(time.Hour) // as a clock that is an hour behind has it
	behind.Issued = api.At(behind.Deadline.Time().Add(-10 * time.Second))
	for _, cmd := range []*api.Command{order(20 * time.Second), order(-time.Second), behind} {
		_, err := a.settings.set(t.Context(), cmd, patch)
		if !errors.Is(err, command.ErrRejected) || !strings.Contains(err.Error(), "wanted a deadline of 25s at least, better 1m40s") {
			t.Errorf("error %v; wanted a rejection that says what deadline is", err)
		}
	}
	if now, _ := a.line.current(); now != link || a.settings.report().State != "applied" {
		t.Errorf("%+v; wanted nothing begun", a.settings.report())
	}
	if _, err := a.settings.set(t.Context(), order(time.Second), outboxPatch(map[string]any{"max_bytes": "1MiB"})); err != nil {
		t.Errorf("a change beside the link: %v", err)
	}
	for left, want := range map[time.Duration]time.Duration{0: 90 * time.Second, 25 * time.Second: 15 * time.Second, time.Minute: 50 * time.Second,
		time.Hour: 90 * time.Second} {
		if got, err := a.settings.trial.within(left); err != nil || got != want {
			t.Errorf("%s left: %s, %v; wanted %s", left, got, err, want)
		}
	}
}

// TestALinkThatIsReplacedDoesNotSayThatTheNodeStopped asks for the last word while the line exchanges links.
func TestALinkThatIsReplacedDoesNotSayThatTheNodeStopped(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	for _, c := range []struct {
		replacing bool
		state     api.NodeState
		reason    string
	}{{true, api.StateDraining, "connecting anew"}, {false, api.StateOffline, "stopped"}} {
		a.line.replacing.Store(c.replacing)
		m, ok := a.goodbye()
		var st api.State
		if err := a.codec.Decode(mqtt.KindState, m.Payload, &st); err != nil || !ok {
			t.Fatal(ok, err)
		}
		if st.State != c.state || !strings.HasPrefix(st.Reason, c.reason) {
			t.Errorf("replaced %t: %+v; wanted %s", c.replacing, st, c.state)
		}
	}
}

func TestTheLinkFollowsTheBrokersThatARenewalNames(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	a.built.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.settings.Run(ctx) }()
	first, replaced := a.line.current()
	id := a.keeper.Current()
	same, moved := *id, *id
	moved.MQTT = append([]string{"mqtts://192.0.2.7:8883"}, slices.Clone(id.MQTT)...)
	a.renewed(id, &same)
	a.renewed(id, &moved)
	select {
	case <-replaced:
	case <-time.After(20 * time.Second):
		t.Fatal("the link is still the one with the old brokers")
	}
	second, replaced := a.line.current()
	if second == first {
		t.Error("the same link again")
	}
	if _, err := a.settings.set(t.Context(), order(time.Minute), outboxPatch(map[string]any{"max_bytes": "1MiB"})); err != nil {
		t.Fatal(err)
	}
	a.settings.mu.Lock()
	a.settings.cfg.MQTT.Servers = []string{"mqtts://mine:8883"} // the configuration names its own
	a.settings.mu.Unlock()
	a.renewed(id, &moved)
	a.settings.follow()
	select {
	case <-replaced:
		t.Error("the link of the configuration's own brokers was replaced")
	default:
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSettingsFromBeforeThatCannotBeUsedAreTold(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	a.settings.mu.Lock()
	a.settings.kept.Current = map[string]any{"telemetry.interval": "damaged"}
	a.settings.mu.Unlock()
	err := a.settings.rollBack(errors.New("a trial failed"))
	if err == nil || !strings.Contains(err.Error(), "settings from before cannot be used") || !strings.Contains(err.Error(), "telemetry.interval") {
		t.Errorf("%v; wanted what became of the settings from before", err)
	}
}
