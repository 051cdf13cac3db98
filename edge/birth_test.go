package edge

import (
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
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
		case <-time.After(time.Second):
			t.Errorf("%s: no birth is due", name)
		}
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
