package kube

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/freeport"
	"github.com/skerry-edge/skerry/test/system"
)

// cable joins a network namespace, where a device is, to this machine.
type cable struct {
	t         testing.TB
	space     string
	here      string // the end on this machine
	Site, End string // addresses
}

func newCable(t testing.TB, name, net string) *cable {
	t.Helper()
	c := &cable{t: t, space: "sk-" + name, here: "sk-" + name, Site: net + ".1", End: net + ".2"}
	_ = exec.Command("ip", "netns", "del", c.space).Run() // of a run that was killed; its cable goes with it
	_ = exec.Command("ip", "link", "del", c.here).Run()
	t.Cleanup(func() {
		c.ip("link", "del", c.here)
		c.ip("netns", "del", c.space)
	})
	c.ip("netns", "add", c.space)
	c.ip("link", "add", c.here, "type", "veth", "peer", "name", "eth0", "netns", c.space)
	c.ip("addr", "add", c.Site+"/30", "dev", c.here)
	c.ip("-n", c.space, "addr", "add", c.End+"/30", "dev", "eth0")
	c.ip("-n", c.space, "link", "set", "lo", "up")
	c.ip("link", "set", c.here, "up")
	c.plug()
	return c
}

func (c *cable) ip(args ...string) {
	c.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		c.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (c *cable) plug() { c.t.Helper(); c.ip("-n", c.space, "link", "set", "eth0", "up") }
func (c *cable) cut()  { c.t.Helper(); c.ip("-n", c.space, "link", "set", "eth0", "down") }

// site starts a cluster agent that listens on this end.
func (c *cable) site(p *ControlPlane, name string) *site {
	c.t.Helper()
	at := func() string { _, port, _ := strings.Cut(freeport.Addr(c.t), ":"); return c.Site + ":" + port }
	return newSite(c.t, p, name, "advertise="+c.Site, "mqtt.listen="+at(), "http.listen="+at())
}

// within has a node agent run at the other end.
func (c *cable) within(p *system.Process) {
	p.Args = append([]string{"netns", "exec", c.space, p.Program}, p.Args...)
	p.Program = "/usr/sbin/ip"
}

// shims are the supervisors of a node's containers.
func shims(t testing.TB, state string) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		raw, err := os.ReadFile(path)
		if args := bytes.Split(raw, []byte{0}); err != nil || len(args) < 3 || string(args[1]) != "shim" || !bytes.HasPrefix(args[2], []byte(state)) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// condition reads one of an object.
func condition(t testing.TB, p *ControlPlane, object, kind string) (status, reason string, err error) {
	t.Helper()
	out, err := p.Admin.Kubectl(t.Context(), "get", object, "-o", fmt.Sprintf(`jsonpath={.status.conditions[?(@.type==%q)].status} {.status.conditions[?(@.type==%[1]q)].reason}`, kind))
	status, reason, _ = strings.Cut(out, " ")
	return status, reason, err
}

func (s *site) conditionBecomes(object, kind, want string, within time.Duration) {
	s.t.Helper()
	eventually(s.t, within, fmt.Sprintf("%s of %s is %s", kind, object, want), func() error {
		status, reason, err := condition(s.t, s.plane, object, kind)
		if err == nil && status != want {
			err = fmt.Errorf("%s, %s", status, reason)
		}
		return err
	})
}

// TestAPodOutlivesACutCableAndAPowerCutBehindIt has Kubernetes lose patience within seconds: a node is unreachable after 10 s, and
// pods are evicted after 5 s more, unless their device is to be waited for. The cable is cut for many times that.
func TestAPodOutlivesACutCableAndAPowerCutBehindIt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root: network namespaces and containers")
	}
	p := Start(t, Options{NodeGrace: 10 * time.Second, APIServer: []string{"--default-unreachable-toleration-seconds=5", "--default-not-ready-toleration-seconds=5"}})
	c := newCable(t, "cut", "10.231.9")
	s := c.site(p, "cable")
	s.stand("leading")
	s.importApp()
	agent := s.prepare("dev-c", "mqtt.keep_alive=10s")
	c.within(agent)
	s.start(agent)
	s.node("dev-e") // when no node at all is ready, Kubernetes takes itself for cut off, and evicts nothing
	s.conditionBecomes("node/dev-c", "Ready", "True", time.Minute)
	s.conditionBecomes("node/dev-e", "Ready", "True", time.Minute)
	apply(t, p, fmt.Sprintf(deployment, "web", 1, "dev-c", `args: [count]`), "apply", "-f", "-")
	pod := of(t, p, "web")
	uid := kubectl(t, p, "get", "pod", pod, "-o", "jsonpath={.metadata.uid}")
	before := shims(t, filepath.Join(s.dir, "dev-c"))
	if len(before) != 1 {
		t.Fatalf("%d containers; wanted the one", len(before))
	}

	told := strings.Count(kubectl(t, p, "logs", pod), "\n")
	gone := time.Now()
	c.cut()
	s.conditionBecomes("node/dev-c", "Ready", "Unknown", 90*time.Second)
	s.conditionBecomes("node/dev-c", "mlsysops.eu/Connected", "False", 90*time.Second)
	s.conditionBecomes("pod/"+pod, "Ready", "False", 90*time.Second)
	if taints := kubectl(t, p, "get", "node", "dev-c", "-o", "jsonpath={.spec.taints[*].key}"); !strings.Contains(taints, "mlsysops.eu/disconnected") {
		t.Errorf("taints are %s; wanted mlsysops.eu/disconnected", taints)
	}
	hold(t, 40*time.Second)
	away := time.Since(gone)
	c.plug()
	s.conditionBecomes("node/dev-c", "Ready", "True", 90*time.Second)
	s.conditionBecomes("pod/"+pod, "Ready", "True", 90*time.Second)
	s.same(pod, uid, "0")
	if after := shims(t, filepath.Join(s.dir, "dev-c")); len(after) != 1 || after[0] != before[0] {
		t.Errorf("the container's supervisor was %v and is %v", before, after)
	}
	lines := strings.Split(strings.TrimSpace(kubectl(t, p, "logs", pod)), "\n")
	for i, line := range lines {
		if line != fmt.Sprint("line ", i+1) {
			t.Fatalf("line %d of the log is %q: it has a gap", i+1, line)
		}
	}
	if want := told + int(away/(150*time.Millisecond)); len(lines) < want { // it writes one each 100 ms, on a machine that is not busy
		t.Errorf("%d lines; wanted at least %d: those of the %s without a link too", len(lines), want, away)
	}

	// A power cut while the cable is cut: the agent and all containers are gone, and start again without a link.
	c.cut()
	s.conditionBecomes("node/dev-c", "Ready", "Unknown", 90*time.Second)
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range before {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	s.start(agent)
	eventually(t, time.Minute, "the workload runs without a link", func() error {
		if now := shims(t, filepath.Join(s.dir, "dev-c")); len(now) != 1 || now[0] == before[0] {
			return fmt.Errorf("supervisors %v", now)
		}
		return nil
	})
	if status, _, err := condition(t, p, "node/dev-c", "Ready"); err != nil || status != "Unknown" {
		t.Error("it is ready behind a cut cable")
	}
	c.plug()
	s.conditionBecomes("pod/"+pod, "Ready", "True", 90*time.Second)
	s.same(pod, uid, "1")
}

// same checks that a deployment's pod is the one that it was.
func (s *site) same(pod, uid, restarts string) {
	s.t.Helper()
	got := kubectl(s.t, s.plane, "get", "pods", "-l", "app=web", "-o", "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.status.phase} {.status.containerStatuses[0].restartCount};{end}")
	if want := fmt.Sprintf("%s %s Running %s;", pod, uid, restarts); got != want {
		s.t.Errorf("the pods are %q; wanted %q", got, want)
	}
}

// hold lets a fault last: the claim is that nothing happens meanwhile.
func hold(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// TestPodsOfADeviceDoNotNoticeThatTheAPIServerIsAway has a pod run through an absence and a restart of the cluster agent within it, and
// be there once after.
func TestPodsOfADeviceDoNotNoticeThatTheAPIServerIsAway(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root: containers")
	}
	p := Start(t, Options{})
	s := newSite(t, p, "silent")
	s.stand("leading")
	s.importApp()
	s.node("dev-d")
	s.conditionBecomes("node/dev-d", "Ready", "True", time.Minute)
	apply(t, p, fmt.Sprintf(deployment, "web", 1, "dev-d", `args: [count]`), "apply", "-f", "-")
	pod := of(t, p, "web")
	uid := kubectl(t, p, "get", "pod", pod, "-o", "jsonpath={.metadata.uid}")
	before := shims(t, filepath.Join(s.dir, "dev-d"))
	if err := p.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	s.stand("down")
	if err := s.cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	s.start(s.cluster)
	s.learn()
	eventually(t, time.Minute, "the device is back at the cluster agent", func() error {
		var n api.Node
		if err := s.client.Get(t.Context(), "/v1/nodes/dev-d", &n); err != nil {
			return err
		}
		if n.Presence != api.PresenceOnline {
			return errors.New(n.Reason)
		}
		return nil
	})
	if now := shims(t, filepath.Join(s.dir, "dev-d")); len(now) != 1 || now[0] != before[0] {
		t.Errorf("the container's supervisor was %v and is %v without an API server", before, now)
	}
	if err := p.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.stand("leading")
	s.conditionBecomes("node/dev-d", "Ready", "True", time.Minute)
	s.conditionBecomes("pod/"+pod, "Ready", "True", time.Minute)
	s.same(pod, uid, "0")
	if now := shims(t, filepath.Join(s.dir, "dev-d")); len(now) != 1 || now[0] != before[0] {
		t.Errorf("the container's supervisor was %v and is %v", before, now)
	}
	kubectl(t, p, "delete", "deployment", "web", "--timeout=60s")
	kubectl(t, p, "wait", "--for=delete", "pod/"+pod, "--timeout=60s")
	if left := shims(t, filepath.Join(s.dir, "dev-d")); len(left) != 0 {
		t.Errorf("supervisors %v are left of a pod that is gone", left)
	}
}
