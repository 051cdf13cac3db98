package k3s

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const secret = "K10abc::id.secret"

// rig is an agent with a k3s that writes down what it is started with, and runs until it is told to end.
type rig struct {
	*Agent
	t    *testing.T
	dir  string
	cfg  Config
	stop func()
}

func newRig(t *testing.T, script string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	program := filepath.Join(r.dir, "fake")
	text := fmt.Sprintf("#!/bin/sh\ntrap 'echo stopped >>%[1]s/argv; exit 0' TERM\necho \"$@\" >>%[1]s/argv\nenv >%[1]s/env\ncp \"$5\" %[1]s/token\nstat -c %%a \"$5\" >%[1]s/mode\n%[2]s\n", r.dir, script)
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	r.cfg = Config{Program: program, Args: []string{"--node-label=a=b"}, Data: filepath.Join(r.dir, "data"), Dir: filepath.Join(r.dir, "own"),
		Log: slog.New(slog.DiscardHandler), Proof: 300 * time.Millisecond, Grace: time.Minute}
	r.begin()
	return r
}

const untilTold = "while :; do sleep 0.05; done"

func (r *rig) begin() {
	r.t.Helper()
	var err error
	if r.Agent, err = New(r.cfg); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	r.stop = func() { cancel(); <-done }
	r.t.Cleanup(r.stop)
}

func (r *rig) read(name string) string {
	r.t.Helper()
	raw, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	return string(raw)
}

func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			r.t.Fatalf("not within a minute: %s; argv %q", what, r.read("argv"))
		}
	}
}

func TestJoinRunsK3sWithATokenThatNobodySees(t *testing.T) {
	r := newRig(t, untilTold)
	if err := r.Join(t.Context(), "https://10.0.0.1:6443", "pi-a-k3s", secret); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("agent --server https://10.0.0.1:6443 --token-file %s/token --node-name pi-a-k3s --data-dir %s --node-label mlsysops.eu/joined-by=skerry --node-label=a=b\n", r.cfg.Dir, r.cfg.Data)
	r.until("k3s runs", func() bool { return r.read("mode") != "" })
	if got := r.read("argv"); got != want {
		t.Errorf("k3s is started with %q; wanted %q", got, want)
	}
	if r.read("token") != secret || strings.TrimSpace(r.read("mode")) != "600" {
		t.Errorf("token %q, mode %s; wanted %q, 600", r.read("token"), r.read("mode"), secret)
	}
	for _, name := range []string{"argv", "env"} {
		if strings.Contains(r.read(name), "secret") {
			t.Errorf("the token is in %s", name)
		}
	}
}

func TestAMemberStaysOneOverARestart(t *testing.T) {
	r := newRig(t, untilTold)
	if err := r.Join(t.Context(), "https://10.0.0.1:6443", "pi-a-k3s", secret); err != nil {
		t.Fatal(err)
	}
	r.until("k3s runs", func() bool { return r.read("mode") != "" })
	r.stop()
	if got := strings.Count(r.read("argv"), "stopped"); got != 1 {
		t.Errorf("k3s was stopped %d times with its agent; wanted once", got)
	}
	r.begin()
	r.until("k3s runs again", func() bool { return strings.Count(r.read("argv"), "agent --server") == 2 })
}

func TestLeaveStopsK3sAndLeavesNoCredentials(t *testing.T) {
	r := newRig(t, untilTold)
	if err := r.Leave(t.Context()); err != nil {
		t.Errorf("leave of no member: %v", err)
	}
	if err := r.Join(t.Context(), "https://10.0.0.1:6443", "pi-a-k3s", secret); err != nil {
		t.Fatal(err)
	}
	r.until("k3s runs", func() bool { return r.read("mode") != "" })
	left, kept := filepath.Join(r.cfg.Data, "agent", "client-kubelet.key"), filepath.Join(r.cfg.Data, "agent", "images.tar")
	if err := os.MkdirAll(filepath.Dir(left), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{left, kept} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(r.read("argv"), "stopped\n") {
		t.Error("k3s still ran when leave had ended")
	}
	for _, f := range []string{left, filepath.Join(r.cfg.Dir, "token"), filepath.Join(r.cfg.Dir, "join.json")} {
		if _, err := os.Stat(f); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", f, err)
		}
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("what is no credential is gone: %v", err)
	}
	r.stop()
	r.begin()
	if r.member() != nil {
		t.Error("it is a member again after a restart")
	}
}

func TestAJoinThatFailsSaysWhyAndJoinsNothing(t *testing.T) {
	r := newRig(t, "echo 'level=fatal msg=\"token CA hash does not match\"' >&2; exit 1")
	r.stop()
	r.cfg.Proof = 5 * time.Minute // it is told before
	r.begin()
	err := r.Join(t.Context(), "https://10.0.0.1:6443", "pi-a-k3s", secret)
	if err == nil || !strings.Contains(err.Error(), "CA hash does not match") {
		t.Errorf("%v; wanted what k3s says", err)
	}
	if _, err := os.Stat(filepath.Join(r.cfg.Dir, "token")); !os.IsNotExist(err) || r.member() != nil {
		t.Errorf("something is joined: %v", err)
	}
	r.cfg.Program = filepath.Join(r.dir, "nothing")
	r.stop()
	r.begin()
	if err := r.Join(t.Context(), "https://10.0.0.1:6443", "pi-a-k3s", secret); err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("%v; wanted that k3s is not installed", err)
	}
}

func TestAMembershipThatSomebodyElseMadeIsLeftAlone(t *testing.T) {
	r := newRig(t, untilTold)
	theirs := filepath.Join(r.cfg.Data, "agent", "client-kubelet.crt")
	if err := errors.Join(os.MkdirAll(filepath.Dir(theirs), 0o700), os.WriteFile(theirs, []byte("theirs"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := r.Join(t.Context(), "https://10.0.0.1:6443", "pi-a-k3s", secret); err == nil || !strings.Contains(err.Error(), "not by this agent") {
		t.Errorf("%v; wanted a refusal", err)
	}
	if err := r.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	if raw, err := os.ReadFile(theirs); err != nil || string(raw) != "theirs" || r.read("argv") != "" {
		t.Errorf("%q, %v, argv %q", raw, err, r.read("argv"))
	}
}

func TestADamagedStateKeepsNobodyFromBeginning(t *testing.T) {
	r := newRig(t, untilTold)
	if err := r.Join(t.Context(), "https://10.0.0.1:6443", "pi-a-k3s", secret); err != nil {
		t.Fatal(err)
	}
	r.stop()
	state := filepath.Join(r.cfg.Dir, stateFile)
	if err := os.WriteFile(state, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.begin()
	if _, err := os.Stat(state + ".damaged"); err != nil {
		t.Error(err)
	}
	if err := r.Join(t.Context(), "https://10.0.0.1:6443", "pi-a-k3s", secret); err != nil {
		t.Errorf("joined anew: %v", err)
	}
}
