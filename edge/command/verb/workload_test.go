package verb

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/workload"
	"github.com/skerry-edge/skerry/edge/workload/conformance"
	"github.com/skerry-edge/skerry/mqtt"
)

const testImage = "registry.test/words:1"

// yard is a node with one workload that runs, reached over the streams of the wire.
type yard struct {
	t     *testing.T
	fake  *conformance.Fake
	verbs map[string]command.Verb
	site  *mqtt.Mux
}

func newYard(t *testing.T) *yard {
	t.Helper()
	y := &yard{t: t, fake: conformance.NewFake("process", testImage), verbs: map[string]command.Verb{}}
	dir := t.TempDir()
	db := must(bbolt.Open(filepath.Join(dir, "state.db"), 0o600, &bbolt.Options{NoSync: true}))(t)
	changed := make(chan struct{}, 1)
	engine := must(workload.New(workload.Config{Usage: bundle.DiskUsage, Runtimes: []workload.Runtime{y.fake}, Dir: filepath.Join(dir, "disk"), MemoryDir: filepath.Join(dir, "memory"), LogBytes: 1 << 20,
		DB: db, Now: time.Now, Log: slog.New(slog.DiscardHandler), Unseal: func(*api.Workload) (*api.Secrets, error) { return &api.Secrets{}, nil }, OnChange: func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		}}))(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	engine.Want([]api.Workload{{Name: "web", Containers: []api.Container{{Name: "main", Image: testImage, Args: []string{"echo out complain err"}}}}})
	for s := engine.Status(); len(s) == 0 || s[0].State != api.WorkloadRunning; s = engine.Status() {
		<-changed
	}
	node := mqtt.NewMux(func(_ context.Context, sid string, f *api.Frame) error { return reach(y.site, sid, f) })
	y.site = mqtt.NewMux(func(_ context.Context, sid string, f *api.Frame) error { return reach(node, sid, f) })
	list := must(NewWorkloads(engine, StreamsFunc(func(ctx context.Context, sid string) (Stream, error) { return node.Open(ctx, sid) })))(t)
	for _, v := range list {
		y.verbs[v.Spec().Name] = v
	}
	return y
}

// result is what came of a verb.
type result struct {
	command.Outcome
	err error
}

// begin runs a verb, with a stream when sid is not empty.
func (y *yard) begin(name, sid string, args map[string]any) (*mqtt.Stream, <-chan result) {
	y.t.Helper()
	args["workload"] = "web"
	var s *mqtt.Stream
	if sid != "" {
		args["stream"] = sid
		s = must(y.site.Open(y.t.Context(), sid))(y.t)
	}
	ended := make(chan result, 1)
	go func() {
		ctx, cancel := context.WithTimeout(y.t.Context(), 2*time.Minute)
		defer cancel()
		out, err := do(ctx, y.verbs[name], args)
		ended <- result{out, err}
	}()
	return s, ended
}

func (y *yard) read(s *mqtt.Stream, channel uint8) string {
	y.t.Helper()
	raw, err := io.ReadAll(s.Reader(y.t.Context(), channel))
	if err != nil {
		y.t.Errorf("read channel %d: %v", channel, err)
	}
	return string(raw)
}

func TestACommandRunsInAContainerOverAStream(t *testing.T) {
	y := newYard(t)
	s, ended := y.begin("workload.exec", "x1", map[string]any{"argv": []any{"cat"}})
	if _, err := s.Write(t.Context(), api.ChannelStdin, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := s.EndWrite(t.Context(), api.ChannelStdin); err != nil {
		t.Fatal(err)
	}
	if got := y.read(s, api.ChannelStdout); got != "hello" {
		t.Errorf("cat gave %q", got)
	}
	if r := <-ended; r.err != nil || r.Exit == nil || *r.Exit != 0 || r.Output != "" {
		t.Errorf("cat: %+v", r)
	}
	s, ended = y.begin("workload.exec", "x2", map[string]any{"argv": []any{"fail", "7"}})
	if got := y.read(s, api.ChannelStdout); got != "" {
		t.Errorf("fail wrote %q", got)
	}
	if r := <-ended; r.err == nil || r.err.Error() != "command ended with exit code 7" || *r.Exit != 7 {
		t.Errorf("fail: %+v", r)
	}
	s, ended = y.begin("workload.exec", "x3", map[string]any{"argv": []any{"size"}, "tty": true})
	raw, err := json.Marshal(workload.Size{Columns: 80, Rows: 24})
	if err != nil || string(raw) != `{"Width":80,"Height":24}` {
		t.Fatalf("size is %s, %v", raw, err)
	}
	if _, err := s.Write(t.Context(), api.ChannelResize, raw); err != nil {
		t.Fatal(err)
	}
	if got := y.read(s, api.ChannelStdout); got != "80x24" {
		t.Errorf("terminal is %q", got)
	}
	if r := <-ended; r.err != nil {
		t.Errorf("size: %+v", r)
	}
	_, ended = y.begin("workload.exec", "", map[string]any{"argv": []any{"echo", "plain"}})
	if r := <-ended; r.err != nil || r.Output != "plain\n" {
		t.Errorf("without a stream: %+v", r)
	}
}

func TestWhoLeavesEndsTheConversation(t *testing.T) {
	y := newYard(t)
	for name, args := range map[string]map[string]any{"workload.exec": {"argv": []any{"sleep"}}, "workload.attach": {}, "workload.logs": {"follow": true}} {
		s, ended := y.begin(name, strings.ReplaceAll(name, ".", "-"), args)
		if name == "workload.logs" {
			if _, got, err := s.Read(t.Context()); err != nil || string(got) != "out\n" {
				t.Errorf("log gave %q, %v", got, err)
			}
		}
		if err := s.Close(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		select {
		case r := <-ended:
			if (r.err != nil) != (name == "workload.exec") {
				t.Errorf("%s: %+v", name, r)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s goes on though nobody is there", name)
		}
	}
}

func TestLogsComeOnTheChannelTheyWereWrittenTo(t *testing.T) {
	y := newYard(t)
	s, ended := y.begin("workload.logs", "l1", map[string]any{"tail": 10.0})
	if out, errs := y.read(s, api.ChannelStdout), y.read(s, api.ChannelStderr); out != "out\n" || errs != "err\n" {
		t.Errorf("stdout %q, stderr %q", out, errs)
	}
	if r := <-ended; r.err != nil {
		t.Error(r.err)
	}
	_, ended = y.begin("workload.logs", "", map[string]any{"since": "1h"})
	if r := <-ended; r.err != nil || r.Output != "out\nerr\n" {
		t.Errorf("without a stream: %+v", r)
	}
	for field, args := range map[string]map[string]any{"since": {"since": "yesterday"}, "follow": {"follow": true}} {
		if _, ended := y.begin("workload.logs", "", args); !strings.Contains((<-ended).err.Error(), "args."+field) {
			t.Errorf("%v is taken", args)
		}
	}
}

func TestAPortIsForwardedBothWays(t *testing.T) {
	y := newYard(t)
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer ln.Close()
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		asked, err := io.ReadAll(conn) // until the other side has said all
		if err == nil {
			_, _ = conn.Write([]byte("you said " + string(asked)))
		}
	}()
	s, ended := y.begin("workload.forward", "f1", map[string]any{"port": float64(ln.Addr().(*net.TCPAddr).Port)})
	if _, err := s.Write(t.Context(), api.ChannelStdin, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := s.EndWrite(t.Context(), api.ChannelStdin); err != nil {
		t.Fatal(err)
	}
	if got := y.read(s, api.ChannelStdout); got != "you said hello" {
		t.Errorf("came back: %q", got)
	}
	if r := <-ended; r.err != nil {
		t.Error(r.err)
	}
}

func TestNoConversationBeginsWithWhatDoesNotRun(t *testing.T) {
	y := newYard(t)
	if err := y.fake.End("web_main_1", 0); err != nil { // it runs again
		t.Fatal(err)
	}
	eventually(t, func() bool { return y.fake.End("web_main_2", 0) == nil }) // and then waits for 10 s
	for _, name := range []string{"workload.exec", "workload.attach", "workload.forward"} {
		args := map[string]any{"workload": "gone", "stream": "s"}
		switch name {
		case "workload.exec":
			args["argv"] = []any{"cat"}
		case "workload.forward":
			args["port"] = 80.0
		}
		if _, err := y.verbs[name].Prepare(args); err == nil || !strings.Contains(err.Error(), `no workload "gone"`) {
			t.Errorf("%s of a workload that is not there: %v", name, err)
		}
		args["workload"] = "web"
		eventually(t, func() bool {
			_ = y.fake.End("web_main_3", 0) // it runs where those 10 s are over already, and the next one waits longer
			_, err := y.verbs[name].Prepare(args)
			return errors.Is(err, workload.ErrNotRunning)
		})
	}
}

func TestUsageIsToldOfAllThatRuns(t *testing.T) {
	y := newYard(t)
	out, err := do(t.Context(), y.verbs["workload.stats"], map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(out.Result)
	if err != nil || !strings.Contains(string(raw), `"workload":"web","container":"main"`) || !strings.Contains(string(raw), `"memoryBytes":1048576`) || !strings.Contains(string(raw), `"failed":0`) {
		t.Errorf("usage %s, %v", raw, err)
	}
	y.fake.Break("Stats", os.ErrPermission)
	out, err = do(t.Context(), y.verbs["workload.stats"], map[string]any{})
	if err != nil || out.Result["failed"] != 1 {
		t.Errorf("usage that cannot be told: %+v, %v", out.Result, err)
	}
}
