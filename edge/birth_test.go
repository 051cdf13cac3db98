package edge

import (
	"context"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/test/enrolment"
)

func TestABirthIsToldAgainOnlyForWhatLasts(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	first := a.birth()
	later := *first
	later.At, later.TimeQuality, later.Backlog.Batches, later.OpenCommands = first.At+5000, api.TimeFloor, 7, []string{"c1"}
	if fingerprint(&later) != fingerprint(first) {
		t.Error("what every moment changes makes another birth")
	}
	for name, patch := range map[string]map[string]any{
		"interval": {"telemetry.interval": "7s"}, "labels": {"labels": []any{"site=mole"}}, "autonomy": {"autonomy": "2d"},
		"probes": {"telemetry.disabled": []any{"cpu"}},
	} {
		before := fingerprint(a.birth())
		for len(a.birthDue) > 0 {
			<-a.birthDue
		}
		if _, err := a.settings.set(t.Context(), order(time.Minute), patch); err != nil {
			t.Fatal(err)
		}
		if fingerprint(a.birth()) == before {
			t.Errorf("%s: the same birth", name)
		}
		select {
		case <-a.birthDue:
		case <-time.After(20 * time.Second):
			t.Errorf("%s: no birth is due", name)
		}
	}
}

// TestAWordThatTookAsLongAsTheBirthDoesNotSetANodeBack has a birth take 20 s, at whose begin the cluster agent signs the time.
func TestAWordThatTookAsLongAsTheBirthDoesNotSetANodeBack(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	right, boot := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC), time.Hour
	a.clock = agent.NewClock(time.Time{}, agent.ClockSource{System: func() time.Time { return time.Unix(5, 0) },
		Boot: func() time.Duration { return boot }, Synced: func() bool { return false }})
	a.epoch.Store(1)
	a.clock.Word(1, right)
	a.epoch.Store(2)
	err := a.tell(t.Context(), func(_ context.Context, topic string, _ []byte, _ bool) error {
		if topic == a.topic(mqtt.KindBirth, "") {
			boot += 20 * time.Second
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	a.clock.Word(2, right)
	if got := a.clock.Cluster(); !got.Equal(right.Add(20*time.Second)) || !a.clock.Told(2) {
		t.Errorf("the cluster's time is %s; wanted %s", got, right.Add(20*time.Second))
	}
}

func TestBirthsThatComeThickAreToldOnceAMinute(t *testing.T) {
	now := time.Now()
	allow := allowance{left: rebirthBurst, at: now}
	told := 0
	for end := now.Add(time.Hour); now.Before(end); told++ {
		wait := allow.wait(now)
		if told < rebirthBurst && wait != rebirthSettle {
			t.Errorf("birth %d waits %s; wanted only that things settle", told, wait)
		}
		now = now.Add(wait)
		allow.left--
	}
	if told < 60 || told > 60+rebirthBurst+2 {
		t.Errorf("%d births in an hour of changes; wanted one a minute", told)
	}
	now = now.Add(time.Hour)
	if wait := allow.wait(now); wait != rebirthSettle {
		t.Errorf("after a quiet hour it waits %s", wait)
	}
}
