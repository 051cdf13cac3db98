package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

// waitingRecord is a command that its node has not begun.
func waitingRecord(id, why string) *api.CommandRecord {
	return &api.CommandRecord{ID: id, Node: "pump-3", Verb: "exec", Phase: api.PhaseAccepted,
		Status: &api.Status{ID: id, Phase: api.PhaseAccepted, Progress: why}}
}

func TestWhatACommandWaitsForIsToldWhenItChangesAndNeverOnceItRuns(t *testing.T) {
	var out bytes.Buffer
	told := &waits{w: &out}
	running := waitingRecord("c1", "5 of 9 bytes")
	running.Phase, running.Status.Phase = api.PhaseRunning, api.PhaseRunning
	ended := waitingRecord("c1", "waits for a place")
	ended.Phase, ended.Final = api.PhaseTimedOut, true
	for _, r := range []*api.CommandRecord{{ID: "c1", Node: "pump-3", Verb: "exec", Phase: api.PhaseQueued}, waitingRecord("c1", ""),
		waitingRecord("c1", "waits for a\x1bplace"), waitingRecord("c1", "waits for a\x1bplace"), waitingRecord("c1", "waits for the disk"), running, ended} {
		told.tell(r)
	}
	if want := "skerry: exec on pump-3 waits for a·place\nskerry: exec on pump-3 waits for the disk\n"; out.String() != want {
		t.Errorf("told %q; wanted %q", out.String(), want)
	}
}

func TestManyCommandsThatWaitAreToldInFewLines(t *testing.T) {
	var out bytes.Buffer
	told := &waits{w: &out}
	for i := range 100 {
		told.tell(waitingRecord(fmt.Sprint("c", i), "waits for a place"))
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if last := lines[len(lines)-1]; len(lines) != maxToldWaits+1 || last != "skerry: more commands wait: skerry get commands --open" {
		t.Errorf("%d lines, the last %q", len(lines), last)
	}
}

// TestWhoeverWaitsForAPlaceIsToldSo has other commands take every place of a node.
func TestWhoeverWaitsForAPlaceIsToldSo(t *testing.T) {
	s := startAgents(t, "n1")
	release := filepath.Join(s.files, "release")
	var full []string
	for range 4 { // command.concurrency
		s.must("run", "exec", "--on", "n1", "--deadline", "5m", "--", "/bin/sh", "-c", "while [ ! -e "+release+" ]; do sleep 0.1; done")
		full = append(full, "exec")
	}
	eventually(t, "every place is taken", func() bool { return strings.Count(s.must("get", "commands", "--open"), "running") == len(full) })
	source, copied := filepath.Join(s.files, "source"), filepath.Join(t.TempDir(), "copied")
	if err := os.WriteFile(source, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	type asked struct {
		args      []string
		out, errs *buffer
		done      chan int
	}
	all := map[string]*asked{
		"exec":      {args: []string{"run", "exec", "--on", "n1", "--wait", "--deadline", "5m", "--", "/bin/sh", "-c", "echo hi"}},
		"exec json": {args: []string{"run", "exec", "--on", "n1", "--wait", "--deadline", "5m", "-o", "json", "--", "/bin/sh", "-c", "echo hi"}},
		"log.tail":  {args: []string{"logs", "n1"}},
		"file.get":  {args: []string{"cp", "n1:" + source, copied}},
		"file.put":  {args: []string{"cp", source, "n1:" + filepath.Join(s.files, "put")}},
	}
	for name, ask := range all {
		app, out, errs := s.app()
		ask.out, ask.errs, ask.done = out, errs, make(chan int, 1)
		go func() { ask.done <- app.Main(t.Context(), ask.args) }()
		verb, _, _ := strings.Cut(name, " ")
		line := fmt.Sprintf("skerry: %s on n1 waits for a place: %d commands run (%s)\n", verb, len(full), strings.Join(full, ", "))
		eventually(t, name+" says what it waits for", func() bool { return strings.Contains(errs.String(), line) })
	}
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, ask := range all {
		if code := <-ask.done; code != ExitOK || strings.Count(ask.errs.String(), "waits for") != 1 {
			t.Errorf("%s: exit %d, said %q, printed %q", name, code, ask.errs.String(), ask.out.String())
		}
	}
	if raw := all["exec json"].out.String(); !json.Valid([]byte(raw)) {
		t.Errorf("no JSON: %s", raw)
	}
	if raw, err := os.ReadFile(copied); err != nil || string(raw) != "content" {
		t.Errorf("copied %q, %v", raw, err)
	}
}
