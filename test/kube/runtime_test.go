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

// onSensor is a deployment under a runtime, for devices with a sensor: name, runtime, image.
const onSensor = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: %[1]s}, spec: {selector: {matchLabels: {app: %[1]s}},
 template: {metadata: {labels: {app: %[1]s}, annotations: {mlsysops.eu/runtime: %[1]s}}, spec: {nodeSelector: {sensor.mlsysops.eu/temperature: bme280},
 tolerations: [{key: mlsysops.eu/far-edge, operator: Exists}], hostNetwork: true, terminationGracePeriodSeconds: 5, containers: [{name: main, image: "%[2]s", args: [count]}]}}}}`

// TestADeploymentRunsUnderEachRuntime has one device with all runtimes, chosen by its sensor.
func TestADeploymentRunsUnderEachRuntime(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root: containers")
	}
	socket := containerd(t)
	p := Start(t, Options{})
	s := newSite(t, p, "runtimes")
	s.edge = "skerry-edge-full"
	s.stand("leading")
	s.importApp()
	s.bring(&module)
	s.node("dev-blind")
	s.node("dev-r", "workloads.containerd="+socket, "telemetry.sys="+sensor(t))
	s.conditionBecomes("node/dev-r", "Ready", "True", time.Minute)
	for _, runtime := range []string{"process", "containerd", "wasm"} {
		t.Run(runtime, func(t *testing.T) {
			image := AppImage
			if runtime == "wasm" {
				image = moduleImage
			}
			apply(t, p, fmt.Sprintf(onSensor, runtime, image), "apply", "-f", "-")
			pod := of(t, p, runtime)
			got := kubectl(t, p, "get", "pod", pod, "-o", "jsonpath={.spec.nodeName} {.status.containerStatuses[0].containerID}")
			if !strings.HasPrefix(got, "dev-r "+runtime+"://") {
				t.Errorf("it runs as %q; wanted dev-r, %s", got, runtime)
			}
			logsOf(t, p, pod)
			out, err := p.Admin.Kubectl(t.Context(), "exec", pod, "--", "/app", "echo", "inside")
			if runtime == "wasm" {
				if err := refusedWith(err, "module"); err != nil {
					t.Error(err)
				}
			} else if err != nil || out != "inside\n" {
				t.Errorf("exec: %q, %v", out, err)
			}
			kubectl(t, p, "delete", "deployment", runtime, "--timeout=60s")
			kubectl(t, p, "wait", "--for=delete", "pod/"+pod, "--timeout=60s")
		})
	}
}
