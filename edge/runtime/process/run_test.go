package process

import (
	"strings"
	"testing"
	"time"
)

func TestAContainerRunsAndItsExitIsKept(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "exit", "7")
	o, _ := r.run(c)
	if o.Exit != 7 || o.Signal != 0 || o.Unknown || o.Workload != "w" || o.Image != "sha256:test" || o.Finished.Before(o.Started) {
		t.Fatalf("got %+v; wanted exit 7", o)
	}
}

func TestOutputIsInTheFormatOfCRI(t *testing.T) {
	r := newRig(t)
	c := r.container("a", "both")
	if _, text := r.run(c); !strings.Contains(text, "to stdout\n") || !strings.Contains(text, "to stderr\n") {
		t.Fatalf("log holds %q", text)
	}
}

func TestStopGivesGraceThenKills(t *testing.T) {
	r := newRig(t)
	kind, stubborn := r.container("kind", "serve"), r.container("stubborn", "stubborn")
	r.start(kind)
	r.start(stubborn)
	r.says(kind, "serving")
	r.says(stubborn, "serving")
	if err := r.Stop(t.Context(), kind.ID, time.Minute); err != nil {
		t.Fatal(err)
	}
	if o, _ := r.observe(kind.ID); o.Running || o.Exit != 3 {
		t.Fatalf("kind: %+v; wanted exit 3", o)
	}
	begin := time.Now()
	if err := r.Stop(t.Context(), stubborn.ID, 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("killed after %v; wanted its grace", took)
	}
	if o, _ := r.observe(stubborn.ID); o.Running || o.Signal != 9 || o.Exit != 137 {
		t.Fatalf("stubborn: %+v; wanted signal 9", o)
	}
}
