package kube

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cli"
	"github.com/skerry-edge/skerry/test/freeport"
	"github.com/skerry-edge/skerry/test/system"
)

const agentNamespace = AgentNamespace

// site is a shipped cluster agent in mode kube, with the rights of install/kube/rbac.yaml and no others.
type site struct {
	t       testing.TB
	dir     string
	plane   *ControlPlane
	cluster *system.Process
	client  *cli.Client
	edge    string // the program of its node agents; empty: lite
}

// newSite starts a cluster agent of that name.
func newSite(t testing.TB, p *ControlPlane, name string, settings ...string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), plane: p}
	config := filepath.Join(s.dir, "kubeconfig")
	if err := p.Admit(t.Context(), config, ""); err != nil {
		t.Fatal(err)
	}
	program, err := system.Program("skerry-cluster")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"run"}
	for _, set := range append([]string{"cluster=" + name, "dir=" + filepath.Join(s.dir, "cluster"), "advertise=127.0.0.1", "mode=kube",
		"kube.kubeconfig=" + config, "mqtt.listen=" + freeport.Addr(t), "http.listen=" + freeport.Addr(t)}, settings...) {
		args = append(args, "--set", set)
	}
	s.cluster = &system.Process{Name: "cluster", Program: program, Args: args, Log: filepath.Join(s.dir, "cluster.log")}
	s.start(s.cluster)
	s.learn()
	return s
}

// start starts a process that ends with the test; when the test fails its log is shown.
func (s *site) start(p *system.Process) {
	s.t.Helper()
	if err := p.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			s.t.Error(err)
		}
		if raw, err := os.ReadFile(p.Log); s.t.Failed() && err == nil {
			s.t.Logf("%s:\n%s", p.Name, raw[max(0, len(raw)-6000):])
		}
	})
}

// learn waits until the cluster agent answers, and takes its administrator's context.
func (s *site) learn() {
	s.t.Helper()
	eventually(s.t, time.Minute, "the cluster agent answers", func() error {
		raw, err := os.ReadFile(filepath.Join(s.dir, "cluster", "admin.yaml"))
		if err != nil {
			return err
		}
		var all cli.Contexts
		if err := yaml.Unmarshal(raw, &all); err != nil || len(all.Contexts) == 0 {
			return fmt.Errorf("no context: %w", err)
		}
		if s.client, err = cli.NewClient(all.Contexts[0]); err != nil {
			return err
		}
		return s.client.Get(s.t.Context(), "/v1/status", &api.ClusterStatus{})
	})
}

// stand waits until the cluster agent stands so to Kubernetes.
func (s *site) stand(state string) {
	s.t.Helper()
	eventually(s.t, 90*time.Second, "Kubernetes is "+state, func() error {
		var st api.ClusterStatus
		if err := s.client.Get(s.t.Context(), "/v1/status", &st); err != nil {
			return err
		}
		if st.Kube == nil || st.Kube.State != state {
			return fmt.Errorf("%+v, %q", st.Kube, st.Trouble)
		}
		return nil
	})
}

// node starts a shipped node agent that joins.
func (s *site) node(name string, settings ...string) *system.Process {
	s.t.Helper()
	p := s.prepare(name, settings...)
	s.start(p)
	return p
}

// prepare makes a node agent that is to be started. Settings are key=value. Its containers end with the test.
func (s *site) prepare(name string, settings ...string) *system.Process {
	s.t.Helper()
	var token api.Token
	if err := s.client.Post(s.t.Context(), "/v1/tokens", api.TokenRequest{TTL: "1h", MaxUses: 1}, &token); err != nil {
		s.t.Fatal(err)
	}
	dir := filepath.Join(s.dir, name)
	config := filepath.Join(s.dir, name+".yaml")
	text := fmt.Sprintf("node: %s\njoin: %q\ndir: %s\nruntime_dir: %s\nmqtt: {backoff_max: 1s}\n", name, token.Join, filepath.Join(dir, "state"), filepath.Join(dir, "run"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	program, err := system.Program(cmp.Or(s.edge, "skerry-edge"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		for _, pid := range shims(s.t, dir) { // with their process namespace
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				s.t.Error(err)
			}
		}
	})
	args := []string{"run", "--config", config}
	for _, set := range settings {
		args = append(args, "--set", set)
	}
	return &system.Process{Name: name, Program: program, Args: args, Log: filepath.Join(s.dir, name+".log")}
}

// field reads one field of an object by JSONPath; a missing object is an error.
func (s *site) field(kind, name, path string) (string, error) {
	return s.plane.Admin.Kubectl(s.t.Context(), "-n", agentNamespace, "get", kind, name, "-o", "jsonpath={"+path+"}")
}

// becomes waits until a field has a value.
func (s *site) becomes(kind, name, path, want string) {
	s.t.Helper()
	eventually(s.t, time.Minute, fmt.Sprintf("%s of %s %s is %q", path, kind, name, want), func() error {
		got, err := s.field(kind, name, path)
		if err == nil && got != want {
			err = fmt.Errorf("%q", got)
		}
		return err
	})
}

// gone waits until an object is.
func (s *site) gone(kind, name string) {
	s.t.Helper()
	eventually(s.t, time.Minute, kind+" "+name+" is gone", func() error {
		_, err := s.field(kind, name, ".metadata.name")
		return refusedWith(err, "not found")
	})
}

// online is how kubectl shows a device that is there.
const online = `.status.conditions[?(@.type=="Ready")].status`

// commands are all that the journal has of a node.
func (s *site) commands(node string) []api.CommandRecord {
	s.t.Helper()
	var list api.List[api.CommandRecord]
	if err := s.client.Get(s.t.Context(), "/v1/commands?node="+node, &list); err != nil {
		s.t.Fatal(err)
	}
	return list.Items
}

// order applies a NodeCommand.
func (s *site) order(name, node, verb, more string) {
	s.t.Helper()
	apply(s.t, s.plane, fmt.Sprintf("{apiVersion: edge.mlsysops.eu/v1alpha1, kind: NodeCommand, metadata: {name: %s, namespace: %s}, spec: {node: %s, verb: %s, %s}}",
		name, agentNamespace, node, verb, more), "apply", "-f", "-")
}

// nodes are the ids of all nodes that the cluster agent knows.
func (s *site) nodes() (ids []string, err error) {
	var list api.List[api.Node]
	err = s.client.Get(s.t.Context(), "/v1/nodes", &list)
	for _, n := range list.Items {
		ids = append(ids, n.ID)
	}
	return ids, err
}

// knows waits until the cluster agent knows exactly these nodes.
func (s *site) knows(want ...string) {
	s.t.Helper()
	eventually(s.t, time.Minute, fmt.Sprintf("the nodes are %v", want), func() error {
		got, err := s.nodes()
		if err == nil && strings.Join(got, " ") != strings.Join(want, " ") {
			err = fmt.Errorf("%v", got)
		}
		return err
	})
}

// phases is a command's history as its object has it.
func (s *site) phases(name string) (out []string, err error) {
	text, err := s.plane.Admin.Kubectl(s.t.Context(), "-n", agentNamespace, "get", "nodecommand", name, "-o", "json")
	if err != nil {
		return nil, err
	}
	var o struct {
		Status struct {
			History []struct{ Phase string }
		}
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return nil, err
	}
	for _, h := range o.Status.History {
		out = append(out, h.Phase)
	}
	if len(out) == 0 {
		err = errors.New("no history")
	}
	return out, err
}
