package verb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

func fixedClock() *agent.Clock {
	return agent.NewClock(time.Time{}, agent.ClockSource{System: func() time.Time { return time.UnixMilli(1_764_000_000_000) },
		Boot: func() time.Duration { return 90 * time.Second }, Synced: func() bool { return true }})
}

type deaf struct{}

func (deaf) SendStatus(context.Context, *api.Status) error { return nil }

func nothing(context.Context) error { return nil }

func some(_ context.Context, _ *api.Command, in map[string]any) (map[string]any, error) {
	return in, nil
}

// all is every verb of this package.
func all(t *testing.T) []command.Verb {
	t.Helper()
	dirs := must(NewDirs(nil))(t)
	return []command.Verb{
		NewPing(fixedClock()), must(NewInfo(func(context.Context) (map[string]any, error) { return nil, nil }))(t),
		must(NewTelemetryNow(fixedClock(), func(context.Context) (map[string]float64, error) { return nil, nil }))(t),
		must(NewExec(nil, nil))(t), must(NewLogTail(&Ring{}, nil, nil))(t), must(NewFileGet(dirs, nil, 0))(t), must(NewFilePut(dirs, nil, 0))(t),
		must(NewConfigSet(some))(t), must(NewAgentRestart(nothing))(t), must(NewReboot(false, nothing))(t),
	}
}

func TestEveryVerbIsTakenByTheEngine(t *testing.T) {
	db := must(bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil))(t)
	defer db.Close()
	e, err := command.New(command.Config{Node: "n1", DB: db, Clock: fixedClock(), Log: slog.New(slog.DiscardHandler), Verbs: all(t)}, deaf{})
	if err != nil {
		t.Fatal(err)
	}
	roles := map[string]api.Role{}
	for _, v := range e.Verbs() {
		roles[v.Name] = v.Role
		if v.Help == "" || v.Args.AdditionalProperties == nil || *v.Args.AdditionalProperties {
			t.Errorf("verb %s: help %q, open arguments", v.Name, v.Help)
		}
	}
	wanted := map[string]api.Role{"ping": "viewer", "info": "viewer", "telemetry.now": "viewer", "exec": "operator", "log.tail": "operator",
		"file.get": "operator", "file.put": "operator", "cancel": "operator", "config.set": "admin", "agent.restart": "admin", "reboot": "admin"}
	if !reflect.DeepEqual(roles, wanted) {
		t.Errorf("roles %v; wanted %v", roles, wanted)
	}
}

func TestPingAnswersWithThePayload(t *testing.T) {
	p := NewPing(fixedClock())
	out, err := do(t.Context(), p, map[string]any{"payload": "héllo"})
	if err != nil || out.Result["payload"] != "héllo" || out.Result["at"] != api.Millis(1_764_000_000_000) || out.Result["nodeUptimeSeconds"] != 90.0 {
		t.Errorf("result %v, error %v", out.Result, err)
	}
	for _, payload := range []string{strings.Repeat("x", 1025), strings.Repeat("é", 600)} {
		if _, err := do(t.Context(), p, map[string]any{"payload": payload}); !errors.Is(err, command.ErrRejected) {
			t.Errorf("%d bytes: %v", len(payload), err)
		}
	}
}

func TestTelemetryNowShowsWhatIsAskedFor(t *testing.T) {
	samples := map[string]float64{"node_load1": 0.5, `node_filesystem_avail_bytes{mountpoint="/"}`: 7, "node_load15": 1, "node_bad": math.NaN()}
	v := must(NewTelemetryNow(fixedClock(), func(context.Context) (map[string]float64, error) { return samples, nil }))(t)
	for _, c := range []struct {
		filter []any
		series []string
	}{
		{nil, []string{`node_filesystem_avail_bytes{mountpoint="/"}`, "node_load1", "node_load15"}},
		{[]any{"node_load1"}, []string{"node_load1"}},
		{[]any{"node_load*"}, []string{"node_load1", "node_load15"}},
		{[]any{"node_filesystem_avail_bytes", "nothing"}, []string{`node_filesystem_avail_bytes{mountpoint="/"}`}},
		{[]any{`node_filesystem_avail_bytes{mountpoint="/"}`}, []string{`node_filesystem_avail_bytes{mountpoint="/"}`}},
	} {
		args := map[string]any{}
		if c.filter != nil {
			args["series"] = c.filter
		}
		out, err := do(t.Context(), v, args)
		if err != nil || !reflect.DeepEqual(out.Result["series"], c.series) || out.Result["omitted"] != 0 {
			t.Errorf("%v: %v, error %v", c.filter, out.Result, err)
		}
	}
	for i := range 5000 {
		samples[fmt.Sprintf(`node_cpu_seconds_total{cpu="%d",mode="idle"}`, i)] = math.MaxFloat64
	}
	out, err := do(t.Context(), v, nil)
	series, _ := out.Result["series"].([]string)
	values, _ := out.Result["values"].([]float64)
	if err != nil || len(series) != len(values) || len(series) == 0 || out.Result["omitted"] != 5003-len(series) {
		t.Errorf("%d series, %d values, %v omitted, error %v", len(series), len(values), out.Result["omitted"], err)
	}
}

func TestRebootNeedsItsPermission(t *testing.T) {
	called := make(chan struct{}, 1)
	r := must(NewReboot(false, func(context.Context) error { called <- struct{}{}; return nil }))(t)
	if _, err := do(t.Context(), r, nil); !errors.Is(err, command.ErrRejected) || !strings.Contains(err.Error(), "allow_reboot") {
		t.Errorf("error %v; wanted the permission named", err)
	}
	select {
	case <-called:
		t.Error("rebooted without permission")
	default:
	}
	r.Allow(true)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := do(ctx, r, nil)
		ended <- err
	}()
	<-called
	cancel() // the end that the reboot brings
	if err := <-ended; err == nil {
		t.Error("it succeeded before the machine was back")
	}
}

func TestConfigSetPassesThePatch(t *testing.T) {
	c := must(NewConfigSet(func(_ context.Context, _ *api.Command, patch map[string]any) (map[string]any, error) {
		if patch["interval"] != "5s" {
			return nil, fmt.Errorf("%w: interval %v: wanted a duration", command.ErrRejected, patch["interval"])
		}
		return map[string]any{"applied": 1}, nil
	}))(t)
	if out, err := do(t.Context(), c, map[string]any{"patch": map[string]any{"interval": "5s"}}); err != nil || out.Result["applied"] != 1 {
		t.Errorf("result %v, error %v", out.Result, err)
	}
	for _, patch := range []any{map[string]any{"interval": 5.0}, map[string]any{}, "interval=5s", nil} {
		if _, err := do(t.Context(), c, map[string]any{"patch": patch}); !errors.Is(err, command.ErrRejected) {
			t.Errorf("%v: error %v; wanted a rejection", patch, err)
		}
	}
}

func TestTheRingKeepsTheEnd(t *testing.T) {
	var r Ring
	var whole strings.Builder
	for i := range 9000 {
		line := fmt.Sprintf("line %d\n", i)
		whole.WriteString(line)
		if n, err := r.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	data, total, _ := r.since(0)
	if total != int64(whole.Len()) || len(data) != ringBytes || !strings.HasSuffix(whole.String(), string(data)) {
		t.Errorf("kept %d of %d", len(data), total)
	}
	if data, _, _ := r.since(total - 10); string(data) != whole.String()[whole.Len()-10:] {
		t.Errorf("since: %q", data)
	}
	huge := strings.Repeat("x", ringBytes+5)
	if _, err := r.Write([]byte(huge)); err != nil {
		t.Fatal(err)
	}
	if data, _, _ := r.since(0); string(data) != huge[5:] {
		t.Error("a write larger than the ring is kept wrongly")
	}
}

func TestLogTailShowsTheLastLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	var lines strings.Builder
	for i := range 200 {
		fmt.Fprintf(&lines, "line %d\n", i)
	}
	if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ring := &Ring{}
	if _, err := ring.Write([]byte("one\ntwo\nthree")); err != nil {
		t.Fatal(err)
	}
	l := must(NewLogTail(ring, []Log{{"app", path}, {"gone", path + "x"}}, nil))(t)
	for _, c := range []struct {
		args   map[string]any
		output string
	}{
		{map[string]any{"source": "app", "lines": 2.0}, "line 198\nline 199\n"},
		{map[string]any{"source": "app", "lines": 0.0}, ""},
		{map[string]any{"source": "app", "lines": 9999.0}, lines.String()},
		{map[string]any{"source": "agent", "lines": 2.0}, "two\nthree"},
		{map[string]any{}, "one\ntwo\nthree"},
	} {
		if out, err := do(t.Context(), l, c.args); err != nil || out.Output != c.output {
			t.Errorf("%v: %q, error %v", c.args, out.Output, err)
		}
	}
	for _, args := range []map[string]any{{"source": "/etc/shadow"}, {"source": path}, {"follow": true}, {"lines": -1.0}, {"lines": "5"}} {
		if _, err := do(t.Context(), l, args); !errors.Is(err, command.ErrRejected) {
			t.Errorf("%v: error %v; wanted a rejection", args, err)
		}
	}
	if _, err := do(t.Context(), l, map[string]any{"source": "gone"}); err == nil || errors.Is(err, command.ErrRejected) {
		t.Errorf("a log that is not there: %v; wanted a failure", err)
	}
}

func TestLogTailFollowsThroughRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "app.log")
		add := func(text string) {
			f := must(os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600))(t)
			if _, err := f.WriteString(text); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		look := func() {
			if !agent.Wait(t.Context(), 2*lookEvery) {
				t.Fatal("test ended")
			}
			synctest.Wait()
		}
		add("old\nnew\n")
		p := newPipe()
		l := must(NewLogTail(&Ring{}, []Log{{"app", path}}, p))(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := do(ctx, l, map[string]any{"source": "app", "lines": 1.0, "follow": true, "stream": "s1"})
			ended <- err
		}()
		look()
		add("a\n")
		look()
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		look()
		add("b\n")
		look()
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		look()
		add("c\n")
		look()
		if got := p.got(api.ChannelStdout); got != "new\na\nb\n\n[skerry: this log was truncated; what was written last before may be missing]\nc\n" {
			t.Errorf("followed %q", got)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		if closed, _ := p.end(); !closed {
			t.Error("the stream was not closed")
		}
	})
}

func TestFollowingEndsWhenTheOtherSideLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe()
		l := must(NewLogTail(&Ring{}, nil, p))(t)
		ended := make(chan error, 1)
		go func() {
			_, err := do(t.Context(), l, map[string]any{"follow": true, "stream": "s1"})
			ended <- err
		}()
		synctest.Wait()
		close(p.in)
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestLogTailFollowsTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, p := &Ring{}, newPipe()
		l := must(NewLogTail(ring, nil, p))(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := do(ctx, l, map[string]any{"follow": true, "stream": "s1"})
			ended <- err
		}()
		for _, text := range []string{"a\n", "b\n"} {
			synctest.Wait()
			if _, err := ring.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := p.got(api.ChannelStdout); got != "a\nb\n" {
			t.Errorf("followed %q", got)
		}
		cancel()
		<-ended
	})
}

func TestAnUpdateIsRefusedWhoseArgumentsCannotBeUnderstood(t *testing.T) {
	var got UpdateArgs
	u, err := NewAgentUpdate(func(_ context.Context, _ *command.Job, in UpdateArgs) (command.Outcome, error) {
		got = in
		return command.Outcome{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range []map[string]any{{}, {"version": "new"}, {"version": "1.4.0", "url": "x"}, {"version": "1.4.0", "window": "at night"}} {
		if _, err := u.Prepare(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
	do, err := u.Prepare(map[string]any{"version": "v1.4.0", "window": "22:00-04:00"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := do(t.Context(), nil); err != nil || got != (UpdateArgs{Version: "1.4.0", Window: "22:00-04:00"}) {
		t.Errorf("%+v, %v", got, err)
	}
}
