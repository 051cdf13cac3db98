package edge

import (
	"testing"
	"time"
)

func TestReportsComeAtOnceAndThenOneASecond(t *testing.T) {
	var p pace
	now := time.Unix(1764000000, 0)
	for i := range reportBurst - 1 {
		if wait := p.told(now); wait != 0 {
			t.Errorf("report %d is followed by a wait of %s", i, wait)
		}
	}
	for i := range 10 {
		wait := p.told(now)
		if wait != reportEvery {
			t.Errorf("report %d beyond the burst is followed by %s; wanted %s", i, wait, reportEvery)
		}
		now = now.Add(wait)
	}
	if wait := p.told(now.Add(time.Hour)); wait != 0 {
		t.Errorf("after an hour of silence it waits %s", wait)
	}
}
