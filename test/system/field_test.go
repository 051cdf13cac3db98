package system

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cli"
	"github.com/skerry-edge/skerry/test/freeport"
)

// field is a cluster agent and its nodes. Its ports stay the same through restarts.
type field struct {
	t       *testing.T
	dir     string
	cluster *Process
	admin   cli.Context
	client  *cli.Client
	status  api.ClusterStatus
}

// newField starts a cluster agent with extra --set settings.
func newField(t *testing.T, settings ...string) *field {
	t.Helper()
	return fieldIn(t, t.TempDir(), settings...)
}

// fieldIn is newField in a directory that may hold a cluster already.
func fieldIn(t *testing.T, root string, settings ...string) *field {
	t.Helper()
	f := &field{t: t, dir: root}
	dir := filepath.Join(f.dir, "cluster")
	args := []string{"run", "--set", "cluster=test", "--set", "dir=" + dir, "--set", "advertise=127.0.0.1"}
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	f.cluster = newProcess(t, f.dir, "skerry-cluster", "cluster", append(args,
		"--set", "mqtt.listen="+freeport.Addr(t), "--set", "http.listen="+freeport.Addr(t))...)
	start(t, f.cluster)
	poll(t, 2*time.Minute, "the cluster agent answers", func() error { return f.learn(dir) })
	return f
}

// learn reads the administrator's context and asks for the cluster's status with it.
func (f *field) learn(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, "admin.yaml"))
	if err != nil {
		return err
	}
	var all cli.Contexts
	if err := yaml.Unmarshal(raw, &all); err != nil {
		return err
	}
	if len(all.Contexts) == 0 {
		return errors.New("admin.yaml holds no context")
	}
	f.admin = all.Contexts[0]
	if f.client, err = cli.NewClient(f.admin); err != nil {
		return err
	}
	return f.get("/v1/status", &f.status)
}

// join makes a token and returns its join string.
func (f *field) join(req api.TokenRequest) api.Token {
	f.t.Helper()
	var token api.Token
	if err := f.post("/v1/tokens", req, &token); err != nil {
		f.t.Fatalf("make token: %v", err)
	}
	return token
}

// node writes the configuration of a node and returns its process, not started.
func (f *field) node(name, join, extra string) *Process {
	f.t.Helper()
	dir := filepath.Join(f.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		f.t.Fatal(err)
	}
	config := fmt.Sprintf("node: %s\njoin: %q\ndir: %s\nruntime_dir: %s\nmqtt: {backoff_max: 1s}\n%s",
		name, join, filepath.Join(dir, "state"), filepath.Join(dir, "run"), extra)
	path := filepath.Join(dir, "edge.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return newProcess(f.t, f.dir, "skerry-edge", name, "run", "--config", path)
}

// online waits until the node is.
func (f *field) online(name string) {
	f.t.Helper()
	poll(f.t, 2*time.Minute, name+" is online", func() error {
		var n api.Node
		if err := f.get("/v1/nodes/"+name, &n); err != nil {
			return err
		}
		if n.Presence != api.PresenceOnline {
			return fmt.Errorf("presence %s", n.Presence)
		}
		return nil
	})
}

func (f *field) get(path string, out any) error {
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	return f.client.Get(ctx, path, out)
}

func (f *field) post(path string, body, out any) error {
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	return f.client.Post(ctx, path, body, out)
}

// ping has the node answer a ping over REST.
func (f *field) ping(name string) {
	f.t.Helper()
	var list api.List[api.CommandRecord]
	if err := f.post("/v1/commands", api.CommandRequest{Nodes: []string{name}, Verb: "ping", Deadline: "2m"}, &list); err != nil {
		f.t.Fatalf("order ping: %v", err)
	}
	poll(f.t, 2*time.Minute, "the ping succeeds", func() error {
		var r api.CommandRecord
		if err := f.get("/v1/commands/"+url.PathEscape(list.Items[0].ID), &r); err != nil {
			return err
		}
		if r.Phase != api.PhaseSucceeded {
			return fmt.Errorf("history %v", r.History)
		}
		return nil
	})
}

// newProcess prepares a program; the test's end kills it, and a failed test shows the end of its log.
func newProcess(t *testing.T, dir, program, name string, args ...string) *Process {
	t.Helper()
	path, err := Program(program)
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{Name: name, Log: filepath.Join(dir, name+".log"), Program: path, Args: args, Env: []string{"SKERRY_CONFIG="}}
	cleanup(t, p)
	return p
}

func cleanup(t *testing.T, p *Process) {
	t.Helper()
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(p.Log); t.Failed() && err == nil {
			t.Logf("%s said last:\n%s", p.Name, tail(p.Log, 25))
		}
	})
}

func start(t *testing.T, p *Process) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
}

func kill(t *testing.T, p *Process) {
	t.Helper()
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
}

func tail(path string, lines int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// poll calls try until it returns nil, and fails the test with its last error after limit.
func poll(t *testing.T, limit time.Duration, what string, try func() error) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	end := time.After(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-end:
			t.Fatalf("waited %s until %s: %v", limit, what, err)
		case <-t.Context().Done():
			t.Fatalf("test ended while waiting until %s: %v", what, err)
		case <-tick.C:
		}
	}
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		t.Fatalf("port of %s: %v", address, err)
	}
	return port
}

// runProgram runs a program to its end, which has to be a good one.
func runProgram(t *testing.T, name string, args ...string) {
	t.Helper()
	program, err := Program(name)
	if err != nil {
		t.Fatal(err)
	}
	if said, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, args[0], err, said)
	}
}
