package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// demoSite is a cluster agent and node agents as child processes, under one temporary directory. Its Run-like life is
// start, then stop; died tells of a child that ended by itself.
type demoSite struct {
	dir      string
	say      io.Writer // progress
	nodes    int
	client   *Client
	status   api.ClusterStatus
	children []*child
	died     chan error
}

// startWithin bounds how long the demo's parts may take to come up.
const startWithin = 60 * time.Second

func (s *demoSite) start(ctx context.Context) error {
	s.died = make(chan error, s.nodes+1)
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if err := s.startCluster(ctx); err != nil {
		return err
	}
	if _, err := certify(ctx, s.client, filepath.Join(s.dir, "operator"), api.OperatorRequest{Name: "alice", Role: api.RoleOperator, TTL: "24h"}); err != nil {
		return fmt.Errorf("make operator certificate: %w", err)
	}
	var token api.Token
	if err := s.client.Post(ctx, "/v1/tokens", api.TokenRequest{TTL: "10m", MaxUses: s.nodes}, &token); err != nil {
		return fmt.Errorf("make join token: %w", err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "join"), []byte(token.Join), 0o600); err != nil {
		return fmt.Errorf("keep join string: %w", err)
	}
	for i := range s.nodes {
		if err := s.startNode(ctx, fmt.Sprintf("demo-%d", i+1)); err != nil {
			return err
		}
	}
	s.tell("%s enrol with one join token …", many(s.nodes, "node agent"))
	return s.until(ctx, "all nodes online", func() (bool, error) {
		var st api.ClusterStatus
		err := s.client.Get(ctx, "/v1/status", &st)
		return err == nil && st.Nodes[api.PresenceOnline] == s.nodes, nil
	})
}

func (s *demoSite) startCluster(ctx context.Context) error {
	dir := filepath.Join(s.dir, "cluster")
	s.tell("starting skerry-cluster: CA, broker, telemetry store, REST in %s", s.dir)
	err := s.spawn(ctx, "skerry-cluster", "cluster", "run", "--set", "cluster=demo", "--set", "dir="+dir, "--set", "advertise=127.0.0.1",
		"--set", "mqtt.listen=127.0.0.1:0", "--set", "http.listen=127.0.0.1:0")
	if err != nil {
		return err
	}
	return s.until(ctx, "the cluster agent", func() (bool, error) {
		all, err := loadContexts(filepath.Join(dir, "admin.yaml"))
		if err != nil || len(all.Contexts) == 0 {
			return false, err
		}
		if s.client, err = NewClient(all.Contexts[0]); err != nil {
			return false, err
		}
		return s.client.Get(ctx, "/v1/status", &s.status) == nil, nil
	})
}

func (s *demoSite) startNode(ctx context.Context, name string) error {
	dir := filepath.Join(s.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory of %s: %w", name, err)
	}
	config := fmt.Sprintf(`node: %s
join: "@%s"
dir: %s
runtime_dir: %s
labels: [site=demo]
telemetry:
  interval: 2s
command:
  exec:
    - {name: kernel, argv: [/bin/uname, -a]}
`, name, filepath.Join(s.dir, "join"), dir, filepath.Join(dir, "run"))
	path := filepath.Join(dir, "edge.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return fmt.Errorf("write configuration of %s: %w", name, err)
	}
	return s.spawn(ctx, "skerry-edge", name, "run", "--config", path)
}

// until polls ready a few times a second.
func (s *demoSite) until(ctx context.Context, what string, ready func() (bool, error)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := ready()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case err := <-s.died:
			return err
		case <-tick.C:
		}
	}
}

func (s *demoSite) tell(format string, args ...any) {
	if _, ok := write(s.say, fmt.Sprintf(format+"\n", args...)); !ok {
		s.say = io.Discard // nobody looks on any more
	}
}

// orders has three commands run their life: one succeeds, one is rejected, and one expires because its node is frozen
// until the deadline has passed.
func (s *demoSite) orders(ctx context.Context) ([]api.CommandRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	last := fmt.Sprintf("demo-%d", s.nodes)
	frozen := s.children[len(s.children)-1].cmd.Process
	asked := []api.CommandRequest{
		{Nodes: []string{"demo-1"}, Verb: "exec", Args: map[string]any{"argv": []string{"/bin/uname", "-a"}}, Deadline: "20s"},
		{Nodes: []string{"demo-1"}, Verb: "exec", Args: map[string]any{"argv": []string{"/bin/rm", "-rf", "/"}}, Deadline: "20s"},
		{Nodes: []string{last}, Verb: "ping", Deadline: "1s"},
	}
	var out []api.CommandRecord
	for i, req := range asked {
		if i == 2 {
			if err := frozen.Signal(syscall.SIGSTOP); err != nil {
				return nil, fmt.Errorf("freeze %s: %w", last, err)
			}
			agent.Wait(ctx, 200*time.Millisecond) // a thread runs on until the kernel gets hold of it, and a ping takes one millisecond
		}
		var list api.List[api.CommandRecord]
		err := s.client.Post(ctx, "/v1/commands", req, &list)
		if i == 2 {
			agent.Wait(ctx, 1500*time.Millisecond) // past the deadline
			err = errors.Join(err, frozen.Signal(syscall.SIGCONT))
		}
		if err != nil {
			return nil, fmt.Errorf("command %s: %w", req.Verb, err)
		}
		out = append(out, list.Items...)
	}
	for i := range out {
		err := s.until(ctx, "the outcome of "+out[i].Verb, func() (bool, error) {
			err := s.client.Get(ctx, "/v1/commands/"+url.PathEscape(out[i].ID), &out[i])
			return out[i].Final, err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *demoSite) summary(ctx context.Context, orders []api.CommandRecord) (*demoSummary, error) {
	ctx, cancel := context.WithTimeout(ctx, defaultRequestTimeout)
	defer cancel()
	var st api.ClusterStatus
	if err := s.client.Get(ctx, "/v1/status", &st); err != nil {
		return nil, err
	}
	sum := &demoSummary{NodesOnline: st.Nodes[api.PresenceOnline], SamplesStored: st.Samples, SamplesOf: map[string]int{},
		Commands: map[api.Phase]int{}, Life: map[string][]api.Transition{}}
	if err := s.countSamples(ctx, sum.SamplesOf); err != nil {
		return nil, err
	}
	for _, r := range orders {
		sum.Commands[r.Phase]++
		sum.Life[r.Verb+" "+r.ID] = r.History
	}
	for _, c := range s.children {
		rss, err := residentBytes(c.cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		if c.name == "cluster" {
			sum.ClusterRSS = rss
		} else {
			sum.EdgeRSSBytes = append(sum.EdgeRSSBytes, rss)
		}
	}
	return sum, nil
}

// countSamples counts what is stored of each node, name by name: PromQL drops the name when it counts over time, so that
// all at once would be many series of the same labels.
func (s *demoSite) countSamples(ctx context.Context, of map[string]int) error {
	names, err := instant(ctx, s.client, `count by (__name__) ({__name__=~"node_.+"})`)
	if err != nil {
		return err
	}
	for _, n := range names {
		points, err := instant(ctx, s.client, `sum by (node) (count_over_time(`+n.Metric["__name__"]+`[1d]))`)
		if err != nil {
			return err
		}
		for _, p := range points {
			of[p.Metric["node"]] += int(p.value())
		}
	}
	return nil
}

// mosquittoFlags are what mosquitto_pub and mosquitto_sub need to connect.
func (s *demoSite) mosquittoFlags() string {
	host, port, err := net.SplitHostPort(trimScheme(s.status.MQTT))
	if err != nil {
		host, port = "127.0.0.1", "8883"
	}
	base := filepath.Join(s.dir, "operator")
	return fmt.Sprintf("-h %s -p %s --cafile %s/ca.crt --cert %s/alice.crt --key %s/alice.key", host, port, base, base, base)
}

func (s *demoSite) topicBase() string { return s.status.Root + "/" + s.status.Cluster }
