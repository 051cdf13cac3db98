package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge"
	"github.com/skerry-edge/skerry/test/freeport"
)

// patience is for a machine that is busy with much else: no test waits for it to end.
const patience = 2 * time.Minute

// buffer is an output that is read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// agents is a cluster agent and its nodes in this process, with everything that they have in the field.
type agents struct {
	t     *testing.T
	dir   string
	files string // which nodes may read and write
	flags map[string]string
	stop  func()
}

func startAgents(t *testing.T, nodes ...string) *agents {
	t.Helper()
	s := &agents{t: t, dir: t.TempDir(), files: t.TempDir()}
	s.flags = map[string]string{"cluster": "c1", "dir": filepath.Join(s.dir, "cluster"), "advertise": "127.0.0.1",
		"mqtt.listen": freeport.Addr(t), "http.listen": freeport.Addr(t), "telemetry.remote_write": ""}
	delete(s.flags, "telemetry.remote_write")
	s.start()
	if len(nodes) == 0 {
		return s
	}
	_, join, _ := s.run("token", "create", "--uses", "0")
	for _, n := range nodes {
		s.startNode(n, strings.TrimSpace(join))
	}
	eventually(t, "all nodes online", func() bool {
		_, out, _ := s.run("get", "nodes")
		return strings.Count(out, "online") == len(nodes)
	})
	return s
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("never: %s", what)
		}
	}
}

// background runs an agent until the test, or the returned function, ends it.
func background(t *testing.T, run func(context.Context) error) func() {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("agent: %v", err)
			}
		case <-time.After(patience):
			t.Error("an agent does not stop")
		}
	})
	t.Cleanup(stop)
	return stop
}

// start starts the cluster agent, for the first time or again.
func (s *agents) start() {
	s.t.Helper()
	cfg, err := configs.LoadCluster(configs.Source{Flags: s.flags})
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := cluster.New(cfg, &buffer{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.stop = background(s.t, a.Run)
	eventually(s.t, "cluster agent answers", func() bool { code, _, _ := s.run("get", "nodes"); return code == 0 })
}

func (s *agents) startNode(name, join string) {
	s.t.Helper()
	file := filepath.Join(s.dir, name+".yaml")
	config := "node: " + name + "\njoin: " + join + "\ndir: " + filepath.Join(s.dir, name) + "\nruntime_dir: " + filepath.Join(s.dir, name+"-run") +
		"\ntelemetry: {interval: 1s}\ncommand:\n  read: [" + s.files + "]\n  write: [" + s.files + "]\n" +
		"  exec:\n    - {name: sh, argv: [/bin/sh], args: ['-c', '(?s).*']}\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
	src := configs.Source{File: file, Required: true}
	cfg, err := configs.LoadEdge(src)
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := edge.New(cfg, src, &buffer{})
	if err != nil {
		s.t.Fatal(err)
	}
	background(s.t, a.Run)
}

// app is a command line of the administrator, and its outputs.
func (s *agents) app() (*App, *buffer, *buffer) {
	var out, errs buffer
	return &App{Out: &out, Err: &errs, In: strings.NewReader(""), Now: time.Now, Env: func(k string) string {
		return map[string]string{"SKERRY_CONFIG": filepath.Join(s.dir, "cluster", "admin.yaml")}[k]
	}}, &out, &errs
}

func (s *agents) run(args ...string) (code int, stdout, stderr string) {
	app, out, errs := s.app()
	code = app.Main(s.t.Context(), args)
	return code, out.String(), errs.String()
}

// must runs a command line that has to succeed.
func (s *agents) must(args ...string) string {
	s.t.Helper()
	code, out, errs := s.run(args...)
	if code != 0 {
		s.t.Fatalf("%v: exit %d: %s%s", args, code, out, errs)
	}
	return out
}

func TestEveryKindInEveryFormatAgainstARunningAgent(t *testing.T) {
	s := startAgents(t, "n1")
	s.must("run", "exec", "--on", "n1", "--wait", "--", "/bin/sh", "-c", "echo "+strings.Repeat("long", 100))
	dir := t.TempDir()
	s.must("operator", "create", strings.Repeat("o", 60), "-d", dir)
	s.must("access", "create", strings.Repeat("a", 60))
	app, _, _ := s.app()
	for _, k := range app.kinds() {
		for _, name := range []string{k.plural, k.singular, k.also} {
			if name == "" {
				continue
			}
			for _, format := range formats() {
				out := s.must("get", name, "-o", format)
				checkShape(t, name, format, out)
			}
		}
		for line := range strings.Lines(s.must("get", k.plural, "-o", "name")) {
			id := strings.TrimSpace(line)
			var one map[string]any
			if err := json.Unmarshal([]byte(s.must("get", k.singular, id, "-o", "json")), &one); err != nil || one["items"] != nil {
				t.Errorf("get %s %s -o json: %v, %v; wanted the object itself", k.singular, id, one, err)
			}
			break
		}
		if code, _, errs := s.run("get", k.singular, "no-such-thing"); code != ExitNotFound && code != ExitUsage {
			t.Errorf("get %s no-such-thing: exit %d, %s", k.singular, code, errs)
		}
		if !k.watched {
			if code, _, _ := s.run("get", k.plural, "-w"); code != ExitUsage {
				t.Errorf("get %s -w: exit %d; wanted %d", k.plural, code, ExitUsage)
			}
		}
	}
	for _, group := range []string{"token", "access", "operator"} {
		if out := s.must(group, "list", "-o", "json"); !strings.Contains(out, `"items"`) {
			t.Errorf("%s list: %s", group, out)
		}
	}
	id := strings.TrimSpace(strings.Split(s.must("access", "list", "-o", "name"), "\n")[1])
	s.must("access", "revoke", id)
}

func checkShape(t *testing.T, name, format, out string) {
	t.Helper()
	var list api.List[map[string]any]
	switch format {
	case "json":
		if err := json.Unmarshal([]byte(out), &list); err != nil || list.Items == nil {
			t.Errorf("get %s -o json: %v in %s", name, err, out)
		}
	case "yaml":
		if err := yaml.Unmarshal([]byte(out), &list); err != nil {
			t.Errorf("get %s -o yaml: %v in %s", name, err, out)
		}
	case "table":
		narrow(t, "get "+name, out)
	}
}

func narrow(t *testing.T, what, out string) {
	t.Helper()
	for line := range strings.Lines(out) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > maxColumns {
			t.Errorf("%s: %d columns: %s", what, n, line)
		}
	}
}

func TestOneNodesOutputComesAsItIsPrinted(t *testing.T) {
	s := startAgents(t, "n1")
	app, out, errs := s.app()
	release := filepath.Join(s.files, "release")
	done := make(chan int, 1)
	go func() {
		done <- app.Main(t.Context(), []string{"run", "exec", "--on", "n1", "-f", "--deadline", "5m", "--", "/bin/sh", "-c",
			"echo first; while [ ! -e " + release + " ]; do sleep 0.1; done; echo second >&2; exit 3"})
	}()
	eventually(t, "the first line", func() bool {
		if len(done) > 0 {
			t.Fatalf("exit %d before the first line: %q, %q", <-done, out.String(), errs.String())
		}
		return strings.Contains(out.String(), "first")
	})
	select {
	case code := <-done:
		t.Errorf("ended with %d before the command did", code)
	default:
	}
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := <-done; code != ExitCommand || out.String() != "first\n" || !strings.HasPrefix(errs.String(), "second\n") {
		t.Errorf("exit %d, %q, %q", code, out.String(), errs.String())
	}
	if code, big, errs := s.run("run", "exec", "--on", "n1", "--wait", "--", "/bin/sh", "-c", "seq 1 40000"); code != 0 || strings.Count(big, "\n") != 40000 {
		t.Errorf("exit %d, %d of 40000 lines, %s", code, strings.Count(big, "\n"), errs)
	}
	end := s.must("run", "exec", "--on", "n1", "--wait", "--follow=false", "--", "/bin/sh", "-c", "seq 1 40000")
	if len(end) > api.MaxOutputBytes || !strings.HasSuffix(end, "\n40000\n") {
		t.Errorf("%d bytes, …%q", len(end), end[max(0, len(end)-20):])
	}
	if pong := s.must("run", "ping", "--on", "n1", "--wait"); !strings.HasPrefix(pong, "pong from n1 in ") || strings.Count(pong, "\n") != 1 {
		t.Error(pong)
	}
	if code, _, errs := s.run("run", "exec", "--on", "n1", "--wait", "--", "/bin/rm"); code != ExitCommand || !strings.Contains(errs, "rejected") {
		t.Errorf("exit %d, %s", code, errs)
	}
	if code, _, errs := s.run("run", "ping", "--on", "nobody", "--wait"); code != ExitNotFound {
		t.Errorf("exit %d, %s", code, errs)
	}
}

func TestSeveralNodesOutputsAreGroupedFailuresLast(t *testing.T) {
	s := startAgents(t, "n1", "n2")
	code, out, errs := s.run("run", "exec", "--on", "n1", "--on", "n2", "--on", "n1", "--wait", "--", "/bin/sh", "-c",
		`echo a; echo b; case "$PWD" in *) exit 0; esac`)
	if code != 0 || out != "n1 | a\nn1 | b\nn2 | a\nn2 | b\n2 of 2 commands succeeded\n" {
		t.Errorf("exit %d, %s%s", code, out, errs)
	}
	code, out, errs = s.run("run", "exec", "--on", "n1,nobody", "--wait", "--", "/bin/sh", "-c", "echo hi")
	if code != ExitCommand || !strings.HasPrefix(out, "n1     | hi\nnobody | REJECTED: ") || !strings.HasSuffix(out, "1 of 2 commands succeeded\n") {
		t.Errorf("exit %d, %s%s", code, out, errs)
	}
	if _, out, _ := s.run("run", "ping", "-l", "=", "--wait"); strings.Count(out, "pong from") != 2 {
		t.Error(out)
	}
}

func TestWaitingSurvivesARestartOfTheClusterAgent(t *testing.T) {
	for _, follow := range []string{"--follow=true", "--follow=false"} {
		s := startAgents(t, "n1")
		app, out, errs := s.app()
		mark := filepath.Join(s.dir, "mark")
		done := make(chan int, 1)
		go func() {
			done <- app.Main(t.Context(), []string{"run", "exec", "--on", "n1", "--wait", follow, "--timeout", "4m", "--deadline", "5m", "--", "/bin/sh", "-c",
				"echo one; touch " + mark + "; sleep 5; echo two"})
		}()
		eventually(t, "the command runs", func() bool { _, err := os.Stat(mark); return err == nil })
		s.stop()
		s.start()
		if code := <-done; code != 0 || out.String() != "one\ntwo\n" {
			t.Errorf("%s: exit %d, %q, %s", follow, code, out.String(), errs.String())
		}
	}
}

func TestAnInterruptedWaitTellsHowToGoOn(t *testing.T) {
	s := startAgents(t, "n1")
	for _, follow := range []string{"--follow=true", "--follow=false"} {
		app, _, errs := s.app()
		ctx, cancel := context.WithCancel(t.Context())
		release := filepath.Join(s.files, "release"+follow)
		done := make(chan int, 1)
		go func() {
			done <- app.Main(ctx, []string{"run", "exec", "--on", "n1", "--wait", follow, "--deadline", "5m", "--", "/bin/sh", "-c",
				"while [ ! -e " + release + " ]; do sleep 0.1; done"})
		}()
		eventually(t, "the command is open", func() bool { return strings.Contains(s.must("get", "commands", "--open"), "running") })
		cancel()
		if code := <-done; code != exitSignal || !strings.Contains(errs.String(), "skerry describe command ") {
			t.Errorf("exit %d, %s", code, errs.String())
		}
		if err := os.WriteFile(release, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, id, _ := strings.Cut(strings.TrimSpace(errs.String()), "skerry describe command ")
		eventually(t, "it succeeds all the same", func() bool { return strings.Contains(s.must("describe", "command", id), "succeeded") })
	}
}

func TestWaitingForTooLongHasACodeOfItsOwn(t *testing.T) {
	s := startAgents(t, "n1")
	release := filepath.Join(s.files, "release")
	defer func() {
		if err := os.WriteFile(release, nil, 0o600); err != nil {
			t.Error(err)
		}
	}()
	for _, follow := range []string{"--follow=true", "--follow=false"} { // in the time it has to ask first
		code, _, errs := s.run("run", "exec", "--on", "n1", "--wait", follow, "--timeout", "5s", "--deadline", "5m", "--", "/bin/sh", "-c",
			"while [ ! -e "+release+" ]; do sleep 0.1; done")
		if code != ExitTimeout || !strings.Contains(errs, "skerry describe command ") {
			t.Errorf("exit %d, %s", code, errs)
		}
	}
}

func TestCompletionAsksTheAgent(t *testing.T) {
	s := startAgents(t, "n1")
	for _, c := range []struct{ args, want string }{
		{"get ", "nodes"}, {"get n", "nodes"}, {"get node-", ""}, {"get node ", "n1"}, {"describe node ", "n1"}, {"logs ", "n1"}, {"run --on ", "n1"},
		{"run ", "ping"}, {"run --on n1 e", "exec"}, {"node remove ", "n1"}, {"get commands --node ", "n1"}, {"get nodes -o ", "yaml"},
		{"context use ", "c1"}, {"get access-", "access-token"}, {"cp n", "n1:/"},
	} {
		if out := s.must(append([]string{"__complete"}, strings.Split(c.args, " ")...)...); !strings.Contains(out, c.want) {
			t.Errorf("skerry %s: %s; wanted %s", c.args, out, c.want)
		}
	}
}

func unpack(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		raw, rerr := io.ReadAll(r)
		if err != nil || rerr != nil {
			t.Fatal(err, rerr)
		}
		files[strings.TrimPrefix(h.Name, "skerry-support/")] = string(raw)
	}
}

func TestABundleHoldsWhatABugReportNeedsAndNoSecret(t *testing.T) {
	s := startAgents(t, "n1")
	_, join, _ := s.run("token", "create")
	planted := []string{"hunter2hunter2", "sw0rdfish-in-output", "key-in-a-patch-77", "inline-file-data-42", "rejected-argument-5", strings.TrimSpace(join)}
	s.run("run", "exec", "--on", "n1", "--wait", "--", "/bin/sh", "-c", "echo login=hunter2hunter2 sw0rdfish-in-$(echo output)")
	s.run("run", "config.set", "--on", "n1", "--wait", "--arg", `patch={"labels":{"k":"key-in-a-patch-77"}}`)
	s.run("run", "file.put", "--on", "n1", "--wait", "--arg", "data=inline-file-data-42", "--arg", "path=/nowhere/x")
	s.run("run", "exec", "--on", "n1", "--wait", "--", "/bin/rm", "rejected-argument-5")
	file := filepath.Join(t.TempDir(), "b.tar.gz")
	s.must("support-bundle", "-f", file)
	files := unpack(t, file)
	for name, text := range files {
		for _, secret := range planted {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %q", name, secret)
			}
		}
	}
	for name, want := range map[string]string{"commands.json": `"/bin/sh"`, "cluster-config.yaml": "retention:", "cluster.log": "cluster agent is up",
		"nodes/n1/info.json": "n1", "nodes/n1/agent.log": "level=", "doctor.json": "server", "metrics.txt": "skerry_cluster", "audit.json": "token.create"} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s: %.300q; wanted %q in it; errors: %s", name, files[name], want, files["errors.txt"])
		}
	}
	if !strings.Contains(files["commands.json"], "bytes left out") {
		t.Error("sizes are not kept")
	}
	open := filepath.Join(t.TempDir(), "c.tar.gz")
	s.must("support-bundle", "-f", open, "--include-payloads", "--nodes", "0")
	files = unpack(t, open)
	if !strings.Contains(files["commands.json"], "hunter2hunter2") || files["nodes/n1/info.json"] != "" {
		t.Error("--include-payloads --nodes 0 does not do what it says")
	}
}

func TestAWatchByIDIsSentNothingElse(t *testing.T) {
	s := startAgents(t, "n1")
	for range 3 {
		s.must("run", "ping", "--on", "n1", "--wait")
	}
	id := strings.Fields(s.must("get", "commands", "-o", "name"))[1]
	app, _, _ := s.app()
	c, _, err := app.client()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	err = c.Watch(ctx, url.Values{"kind": {"command"}, "initial": {"true"}, "id": {id, "never-was"}}, func(ch *api.Change) error {
		got = append(got, ch.Command.ID)
		if len(got) == 1 {
			s.must("run", "ping", "--on", "n1", "--wait")
			time.AfterFunc(time.Second, cancel) // what is sent of that would have come by then
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || len(got) != 1 || got[0] != id {
		t.Errorf("%v, got %v; wanted only %s", err, got, id)
	}
}

func TestOnlyAnAdministratorReadsLogAndConfiguration(t *testing.T) {
	s := startAgents(t, "n1")
	file := filepath.Join(t.TempDir(), "operator.yaml")
	if err := os.WriteFile(file, []byte(s.must("access", "create", "bob", "--role", "operator")), 0o600); err != nil {
		t.Fatal(err)
	}
	app, out, errs := s.app()
	app.Env = func(string) string { return file }
	bundle := filepath.Join(t.TempDir(), "b.tar.gz")
	if code := app.Main(t.Context(), []string{"support-bundle", "-f", bundle}); code != 0 {
		t.Fatalf("exit %d, %s%s", code, out, errs)
	}
	files := unpack(t, bundle)
	if files["cluster.log"] != "" || files["cluster-config.yaml"] != "" || files["nodes/n1/agent.log"] == "" {
		t.Error("an operator's bundle holds what takes an administrator, or lacks what does not")
	}
	if n := files["errors.txt"]; !strings.Contains(n, "cluster.log: bob has role operator") || !strings.Contains(n, "audit.json") {
		t.Error(n)
	}
}
