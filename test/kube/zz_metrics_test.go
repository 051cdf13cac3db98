package kube

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestZZMetricsServer(t *testing.T) {
	p := Start(t, Options{})
	s := newSite(t, p, "work")
	s.stand("leading")
	s.importApp()
	s.node("dev-a")
	s.conditionBecomes("node/dev-a", "Ready", "True", time.Minute)
	apply(t, p, fmt.Sprintf(deployment, "web", 1, "dev-a", `args: [count], resources: {limits: {memory: 64Mi, cpu: 500m}}`), "apply", "-f", "-")
	pod := of(t, p, "web")
	if out, err := exec.Command("ip", "address", "add", "198.18.77.9/32", "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer exec.Command("ip", "address", "del", "198.18.77.9/32", "dev", "lo").Run()
	cmd := exec.Command("/tmp/ms/metrics-server", "--kubeconfig="+p.Admin.Kubeconfig, "--authentication-kubeconfig="+p.Admin.Kubeconfig, "--authorization-kubeconfig="+p.Admin.Kubeconfig,
		"--secure-port=14443", "--bind-address=198.18.77.9", "--cert-dir="+t.TempDir(), "--kubelet-certificate-authority="+p.papers.servers.file, "--kubelet-preferred-address-types=InternalIP", "--kubelet-use-node-status-port", "--metric-resolution=15s")
	log, _ := os.Create("/tmp/ms/ms.log")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	apply(t, p, `{apiVersion: v1, kind: List, items: [
 {apiVersion: v1, kind: Service, metadata: {name: metrics-server, namespace: kube-system}, spec: {ports: [{name: https, port: 443, targetPort: 14443}]}},
 {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: metrics-server, namespace: kube-system, labels: {kubernetes.io/service-name: metrics-server}}, addressType: IPv4, endpoints: [{addresses: [198.18.77.9], conditions: {ready: true}}], ports: [{name: https, port: 14443}]},
 {apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: v1beta1.metrics.k8s.io}, spec: {service: {name: metrics-server, namespace: kube-system}, group: metrics.k8s.io, version: v1beta1, insecureSkipTLSVerify: true, groupPriorityMinimum: 100, versionPriority: 100}}]}`, "apply", "-f", "-")
	eventually(t, 2*time.Minute, "top", func() error {
		out, err := p.Admin.Kubectl(t.Context(), "top", "pod", pod, "--containers")
		if err == nil {
			t.Log("\n" + out)
		}
		return err
	})
	t.Log("\n" + kubectl(t, p, "top", "nodes"))
	t.Log("\n" + kubectl(t, p, "top", "pods", "-A"))
}
