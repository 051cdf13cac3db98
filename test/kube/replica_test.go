package kube

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/freeport"
	"github.com/skerry-edge/skerry/test/system"
)

// newReplicas starts two cluster agents on one mosquitto, both with the rights of one.
func newReplicas(t *testing.T, p *ControlPlane) map[string]*site {
	t.Helper()
	base, broker := t.TempDir(), freeport.Addr(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	program, err := system.Program("skerry-cluster")
	must(err)
	conf, first := filepath.Join(base, "broker"), filepath.Join(base, "a", "cluster")
	common := []string{"cluster=rep", "mqtt.external=mqtts://" + broker, "advertise=127.0.0.1", "replica.names=a,b"}
	args := []string{"broker-config", "--out", conf, "--set", "dir=" + first}
	for _, set := range common {
		args = append(args, "--set", set)
	}
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("broker-config: %v: %s", err, out)
	}
	config := filepath.Join(base, "kubeconfig")
	must(p.Admit(t.Context(), config, ""))
	sites := map[string]*site{}
	for _, name := range []string{"a", "b"} {
		s := &site{t: t, dir: filepath.Join(base, name), plane: p}
		if name == "a" { // mosquitto drops its rights, and has to reach its files
			for dir := conf; dir != filepath.Dir(os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
				must(os.Chmod(dir, 0o711))
			}
			s.start(&system.Process{Name: "mosquitto", Log: filepath.Join(base, "mosquitto.log"), Program: "/usr/sbin/mosquitto", Args: []string{"-c", filepath.Join(conf, "mosquitto.conf")}})
		}
		dir := filepath.Join(s.dir, "cluster")
		must(os.MkdirAll(dir, 0o700))
		for _, file := range []string{"ca.crt", "ca.key", "orders.key"} {
			raw, err := os.ReadFile(filepath.Join(first, file))
			must(err)
			must(os.WriteFile(filepath.Join(dir, file), raw, 0o600))
		}
		args := []string{"run"}
		for _, set := range append([]string{"dir=" + dir, "mode=kube", "kube.kubeconfig=" + config, "http.listen=" + freeport.Addr(t), "mqtt.node_servers=mqtts://" + broker,
			"replica.name=" + name, "replica.timeout=6s", "kube.kubelet_listen=" + freeport.Row(t, 20), "kube.kubelet_ports=20"}, common...) {
			args = append(args, "--set", set)
		}
		s.cluster = &system.Process{Name: "cluster-" + name, Program: program, Args: args, Log: filepath.Join(s.dir, "cluster.log")}
		s.start(s.cluster)
		s.learn()
		s.importApp()
		sites[name] = s
	}
	return sites
}

// owns reports whether a replica acts for a device.
func (s *site) owns(node string) bool {
	var n api.Node
	return s.client.Get(s.t.Context(), "/v1/nodes/"+node, &n) == nil && n.Owner != nil && n.Owner.Here
}

// TestPodsOutliveTheReplicaThatActsForTheirDevice kills the one of two cluster agents that has a device: the pods of the device are begun,
// ended and read through the other one, and those that run do not notice, nor when it comes back.
func TestPodsOutliveTheReplicaThatActsForTheirDevice(t *testing.T) {
	p := Start(t, Options{NodeGrace: 8 * time.Second})
	sites := newReplicas(t, p)
	sites["a"].node("dev-r")
	sites["a"].conditionBecomes("node/dev-r", "Ready", "True", 90*time.Second)
	victim, heir := sites["a"], sites["b"]
	if heir.owns("dev-r") {
		victim, heir = heir, victim
	}
	if !victim.owns("dev-r") {
		t.Fatal("nobody acts for the device")
	}
	run := func(name string) {
		apply(t, p, fmt.Sprintf(onDevice, name, "dev-r", "Always", "args: [count]", ""), "apply", "-f", "-")
		kubectl(t, p, "wait", "pod/"+name, "--for=condition=Ready", "--timeout=90s")
	}
	run("steady")
	run("leaves")
	const is = "jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.running.startedAt}"
	before := kubectl(t, p, "get", "pod", "steady", "-o", is)
	same := func(when string) {
		t.Helper()
		kubectl(t, p, "wait", "pod/steady", "--for=condition=Ready", "--timeout=90s")
		if now := kubectl(t, p, "get", "pod", "steady", "-o", is); now != before {
			t.Errorf("%s: %q became %q", when, before, now)
		}
		eventually(t, time.Minute, "its logs can be read "+when, func() error {
			out, err := p.Admin.Kubectl(t.Context(), "logs", "steady", "--limit-bytes=7")
			if err != nil || out != "line 1\n" {
				return fmt.Errorf("%q, %w", out, err)
			}
			return nil
		})
	}
	if err := victim.cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	run("comes")
	if !heir.owns("dev-r") {
		t.Error("a pod runs through a replica that does not act for its device")
	}
	kubectl(t, p, "delete", "pod", "leaves", "--timeout=60s")
	same("after its replica was killed")
	if err := victim.cluster.Start(); err != nil {
		t.Fatal(err)
	}
	victim.learn()
	victim.stand("standing by")
	run("later")
	same("with both replicas again")
}
