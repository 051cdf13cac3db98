package edge

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/doctor"
)

func TestTheDoctorTellsOfAFaultyConfigurationWithItsOwnExitCode(t *testing.T) {
	dir := t.TempDir()
	exit, out, errs := door(t, dir, "doctor", "--set", "telemetry.disabled=nosuchprobe")
	if exit != doctor.ExitConfiguration || !strings.Contains(out, `FAIL  configuration`) || !strings.Contains(out, "nosuchprobe") || errs != "" {
		t.Errorf("exit %d, %s\n%s", exit, out, errs)
	}
}

func TestTheDoctorLooksAtTheAgentThatRuns(t *testing.T) {
	dir := t.TempDir()
	cfg, err := load(configs.Source{Flags: map[string]string{"runtime_dir": dir, "telemetry.interval": "1s"}})
	if err != nil {
		t.Fatal(err)
	}
	none, err := askStatus(t.Context(), dir)
	if f := examineAgent(t.Context(), cfg, none, err); f.Exit != doctor.ExitAgent || !strings.Contains(f.Seen, "no agent runs") {
		t.Errorf("no agent: %+v", f)
	}
	var dropped, step atomic.Uint64
	ctx, cancel := context.WithCancel(t.Context())
	s := newStatusServer(dir, func() Status {
		return Status{PID: 7, Now: api.At(time.Now()), Backlog: api.Backlog{Dropped: api.Dropped{Samples: dropped.Add(step.Load())}}}
	})
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.ready
	for _, c := range []struct {
		dropped, step uint64
		exit          int
		says          string
	}{{0, 0, doctor.ExitOK, "pid 7"}, {40, 0, doctor.ExitOK, "40 samples and 0 events were dropped"}, {40, 5, doctor.ExitAgent, "drops what it measures"}} {
		dropped.Store(c.dropped)
		step.Store(c.step)
		running, err := askStatus(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		f := examineAgent(ctx, cfg, running, nil)
		if f.Exit != c.exit || !strings.Contains(f.Detail, c.says) || c.exit != doctor.ExitOK && !strings.HasPrefix(f.Seen, "5 samples") {
			t.Errorf("%+v: %+v", c, f)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTheDoctorLaysWhatWasSetRemotelyOverTheFile(t *testing.T) {
	for _, c := range []struct {
		kept    overlays
		servers string
		says    string
	}{
		{overlays{Current: map[string]any{"mqtt.servers": []string{"mqtts://a:1"}}}, "mqtts://a:1", ", and what was set remotely"},
		{overlays{Trial: map[string]any{"mqtt.servers": []string{"mqtts://b:1"}}}, "mqtts://b:1", ", and what was set remotely"},
		{overlays{Current: map[string]any{"telemetry.disabled": "nosuchprobe"}}, "", "left out at a start: telemetry.disabled[0]"},
	} {
		raw, err := json.Marshal(c.kept)
		if err != nil {
			t.Fatal(err)
		}
		f := &found{}
		if says := f.lay(raw); !strings.Contains(says, c.says) || strings.Join(f.MQTT.Servers, "") != c.servers {
			t.Errorf("%+v: %q, %v", c.kept, says, f.MQTT.Servers)
		}
	}
	if f := (&found{fault: errors.New("x")}); f.lay([]byte(`{"current":{}}`)) != "" || f.Dir != "" {
		t.Error("laid over a faulty file")
	}
}
