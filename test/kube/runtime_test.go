package kube

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/test/freeport"
)

// containerd starts one that is this test's alone, and returns its socket.
func containerd(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "config.toml"), filepath.Join(dir, "s")
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n",
		dir+"/root", dir+"/state", socket, dir+"/t")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("containerd", "--config", file)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") != "true" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		clearTasks(t, socket)
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was told to end
		if t.Failed() {
			t.Logf("containerd:\n%s", log.String())
		}
	})
	eventually(t, time.Minute, "containerd listens", func() error { _, err := os.Stat(socket); return err })
	return socket
}

// clearTasks ends what a node agent that was killed meanwhile has left to a containerd, which keeps its shims and mounts.
func clearTasks(t *testing.T, socket string) {
	t.Helper()
	ctr := func(args ...string) string {
		out, err := exec.Command("ctr", append([]string{"--address", socket, "--namespace", "skerry"}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("ctr %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	for _, id := range strings.Fields(ctr("task", "ls", "--quiet")) {
		ctr("task", "rm", "--force", id)
	}
}

// sensor is a /sys with one, which the kernel's drivers would show.
func sensor(t *testing.T) string {
	t.Helper()
	sys := t.TempDir()
	dir := filepath.Join(sys, "class", "hwmon", "hwmon0")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"name": "bme280\n", "temp1_input": "21500\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return sys
}

// onSensor is a deployment under a runtime, for devices with a sensor: name and runtime, image, arguments.
const onSensor = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: %[1]s}, spec: {selector: {matchLabels: {app: %[1]s}},
 template: {metadata: {labels: {app: %[1]s}, annotations: {mlsysops.eu/runtime: %[1]s}}, spec: {nodeSelector: {sensor.mlsysops.eu/temperature: bme280},
 tolerations: [{key: mlsysops.eu/far-edge, operator: Exists}], hostNetwork: true, terminationGracePeriodSeconds: 5, containers: [{name: main, image: "%[2]s", args: [%[3]s],
 env: [{name: WORD, valueFrom: {secretKeyRef: {name: pass, key: word}}}, {name: COST, value: "5$$(WORD)"}], resources: {limits: {memory: 64Mi, cpu: 500m}},
 volumeMounts: [{name: c, mountPath: /c}, {name: c, mountPath: /sub/word, subPath: word}]}], volumes: [{name: c, configMap: {name: words}}]}}}}`

// TestADeploymentRunsUnderEachRuntime has one device with all runtimes, chosen by its sensor, and goes through kubectl's verbs under
// each: where the API server reaches the cluster agent directly, and through the tunnel of k3s.
func TestADeploymentRunsUnderEachRuntime(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root: containers")
	}
	socket := containerd(t)
	t.Run("direct", func(t *testing.T) { verbsUnderEachRuntime(t, Start(t, Options{}), "127.0.0.1", socket) })
	t.Run("tunnel", func(t *testing.T) {
		verbsUnderEachRuntime(t, Start(t, Options{K3s: true}), "skerry-tunnel.mlsysops.svc.cluster.local", socket)
	})
}

// verbsUnderEachRuntime calls the cluster and the device by the name of the test. Host is how the cluster agent is called as a kubelet.
func verbsUnderEachRuntime(t *testing.T, p *ControlPlane, host, socket string) {
	_, route, _ := strings.Cut(t.Name(), "/")
	s := newSite(t, p, route, "kube.kubelet_listen="+freeport.Row(t, 20), "kube.kubelet_ports=20")
	s.edge = "skerry-edge-full"
	s.stand("leading")
	s.importApp()
	s.bring(&module)
	s.node("blind-" + route)
	device := "dev-" + route
	s.node(device, "workloads.containerd="+socket, "telemetry.sys="+sensor(t))
	s.conditionBecomes("node/"+device, "Ready", "True", time.Minute)
	apply(t, p, "{apiVersion: v1, kind: Secret, metadata: {name: pass}, stringData: {word: hush}}", "apply", "-f", "-")
	kubectl(t, p, "create", "configmap", "words", "--from-literal=word=none")
	address := freeport.Addr(t)
	for _, c := range []struct{ runtime, image, args string }{
		{"process", AppImage, `serve, "` + address + `"`}, {"containerd", AppImage, `serve, "` + address + `"`}, {"wasm", moduleImage, "count"},
	} {
		t.Run(c.runtime, func(t *testing.T) {
			apply(t, p, fmt.Sprintf(onSensor, c.runtime, c.image, c.args), "apply", "-f", "-")
			pod := of(t, p, c.runtime)
			got := kubectl(t, p, "get", "pod", pod, "-o", "jsonpath={.spec.nodeName} {.status.containerStatuses[0].containerID}")
			if !strings.HasPrefix(got, device+" "+c.runtime+"://") {
				t.Errorf("it runs as %q; wanted %s, %s", got, device, c.runtime)
			}
			logsOf(t, p, pod)
			if c.runtime == "wasm" {
				moduleRefuses(t, p, pod)
			} else {
				execIn(t, p, pod)
				renewedUnder(t, p, pod, c.runtime)
				forwardTo(t, p, pod, address)
			}
			metricsAsAMetricsServer(t, p, host, device, pod)
			described(t, p, device, pod)
			deleted(t, p, c.runtime, pod, address)
		})
	}
}

// renewedUnder changes a file of a volume while the pod runs. The label has the pod looked at now rather than by and by.
func renewedUnder(t *testing.T, p *ControlPlane, pod, word string) {
	read := func(file string) (string, error) {
		return p.Admin.Kubectl(t.Context(), "exec", pod, "--", "/app", "read", file)
	}
	before, err := read("/c/word")
	if sub, err2 := read("/sub/word"); err != nil || err2 != nil || sub != before || sub == word {
		t.Errorf("%q, %v; subPath %q, %v", before, err, sub, err2)
	}
	kubectl(t, p, "patch", "configmap", "words", "--type=merge", "-p", `{"data":{"word":"`+word+`"}}`)
	kubectl(t, p, "label", "pod", pod, "look=now")
	eventually(t, time.Minute, "the file is renewed", func() error {
		if out, err := read("/c/word"); err != nil || out != word {
			return fmt.Errorf("%q, %w", out, err)
		}
		return nil
	})
	if out, err := read("/sub/word"); err != nil || out != before {
		t.Errorf("subPath has become %q, %v", out, err)
	}
}

// moduleRefuses: a module is one program without a network.
func moduleRefuses(t *testing.T, p *ControlPlane, pod string) {
	if _, err := p.Admin.Kubectl(t.Context(), "exec", pod, "--", "/app", "echo", "inside"); refusedWith(err, "module") != nil {
		t.Error(refusedWith(err, "module"))
	}
}
