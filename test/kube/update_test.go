package kube

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// TestPodsDoNotNoticeThatTheAgentIsUpdated has one under each runtime, whose program counts in its log from its start.
func TestPodsDoNotNoticeThatTheAgentIsUpdated(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root: containers")
	}
	socket := containerd(t)
	p := Start(t, Options{})
	s := newSite(t, p, "renewed", "kube.command_role=admin")
	s.stand("leading")
	s.importApp()
	s.bring(&module)
	trusted := s.publish("full", "7.0.0", "7.1.0")
	edge := s.prepare("dev-u", "workloads.containerd="+socket, "telemetry.sys="+sensor(t), "update.keys="+trusted, "update.window=1m")
	s.install(edge, "7.0.0")
	s.start(edge)
	s.conditionBecomes("node/dev-u", "Ready", "True", time.Minute)
	apply(t, p, "{apiVersion: v1, kind: Secret, metadata: {name: pass}, stringData: {word: hush}}", "apply", "-f", "-")
	apply(t, p, "{apiVersion: v1, kind: ConfigMap, metadata: {name: words}, data: {word: one}}", "apply", "-f", "-")
	images := map[string]string{"process": AppImage, "containerd": AppImage, "wasm": moduleImage}
	pods, before := map[string]string{}, map[string]string{}
	is := func(runtime string) string {
		return kubectl(t, p, "get", "pod", pods[runtime], "-o", "jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.running.startedAt}")
	}
	t.Cleanup(func() { // while the agent is there to end them
		for runtime, pod := range pods {
			_, err := p.Admin.Kubectl(context.Background(), "delete", "deployment", runtime)
			if err == nil {
				_, err = p.Admin.Kubectl(context.Background(), "wait", "--for=delete", "pod/"+pod, "--timeout=60s")
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	for runtime, image := range images {
		apply(t, p, fmt.Sprintf(onSensor, runtime, image, "count"), "apply", "-f", "-")
		pods[runtime] = of(t, p, runtime)
		before[runtime] = is(runtime)
	}

	s.order("renew", "dev-u", "agent.update", `args: {version: "7.1.0"}, deadline: 10m`)
	kubectl(t, p, "-n", agentNamespace, "wait", "nodecommand/renew", "--for=jsonpath={.status.phase}=succeeded", "--timeout=300s")
	eventually(t, time.Minute, "the device runs the new version", func() error {
		var n api.Node
		if err := s.client.Get(t.Context(), "/v1/nodes/dev-u", &n); err != nil || n.Birth == nil || n.Birth.Version != "7.1.0" {
			return fmt.Errorf("%+v, %w", n.Birth, err)
		}
		return nil
	})
	for runtime := range images {
		if got := is(runtime); got != before[runtime] || !strings.HasPrefix(got, runtime+"://") || !strings.Contains(got, " 0 ") {
			t.Errorf("%s: %q became %q", runtime, before[runtime], got)
		}
		lines := strings.Split(strings.TrimSpace(kubectl(t, p, "logs", pods[runtime])), "\n")
		for i, line := range lines {
			if line != fmt.Sprint("line ", i+1) {
				t.Fatalf("%s: line %d of its log is %q", runtime, i+1, line)
			}
		}
		logsOf(t, p, pods[runtime])
		if runtime != "wasm" {
			if out := kubectl(t, p, "exec", pods[runtime], "--", "/app", "env", "WORD"); out != "hush\n" {
				t.Errorf("%s: exec by the new agent: %q", runtime, out)
			}
		}
	}
}
