package kube

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/test/freeport"
)

// deployment is one on devices: name, replicas, node, then the rest of its container.
const deployment = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: %[1]s}, spec: {replicas: %[2]d, selector: {matchLabels: {app: %[1]s}},
 template: {metadata: {labels: {app: %[1]s}}, spec: {nodeSelector: {kubernetes.io/hostname: %[3]s}, tolerations: [{key: mlsysops.eu/far-edge, operator: Exists}],
 hostNetwork: true, terminationGracePeriodSeconds: 5, containers: [{name: main, image: registry.test/app:1, imagePullPolicy: IfNotPresent, %[4]s}]}}}}`

// of waits until the one pod of a deployment runs, and returns its name.
func of(t *testing.T, p *ControlPlane, name string) (pod string) {
	t.Helper()
	eventually(t, 90*time.Second, name+" runs", func() error {
		out, err := p.Admin.Kubectl(t.Context(), "get", "pods", "-l", "app="+name, "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.phase} {.status.conditions[?(@.type=="Ready")].status} {.status.containerStatuses[*].state}{"\n"}{end}`)
		if err != nil {
			return err
		}
		fields := strings.Fields(out)
		if len(fields) < 3 || fields[1] != "Running" || fields[2] != "True" {
			return fmt.Errorf("%q", out)
		}
		pod = fields[0]
		return nil
	})
	return pod
}

// TestADeploymentRunsOnADeviceAsOnAKubelet goes through kubectl's verbs with a pod on a device.
func TestADeploymentRunsOnADeviceAsOnAKubelet(t *testing.T) {
	p := Start(t, Options{})
	s := newSite(t, p, "work", "log.level=debug")
	s.stand("leading")
	s.importApp()
	s.node("dev-a")
	eventually(t, time.Minute, "the device is a node", func() error {
		_, err := p.Admin.Kubectl(t.Context(), "wait", "--for=condition=Ready", "node/dev-a", "--timeout=1s")
		return err
	})
	apply(t, p, "{apiVersion: v1, kind: Secret, metadata: {name: pass}, stringData: {word: hush}}", "apply", "-f", "-")
	address := freeport.Addr(t)
	apply(t, p, fmt.Sprintf(deployment, "web", 1, "dev-a", `args: [serve, "`+address+`"], env: [{name: WORD, valueFrom: {secretKeyRef: {name: pass, key: word}}}, {name: COST, value: "5$$(WORD)"}],
 resources: {limits: {memory: 64Mi, cpu: 500m}}`), "apply", "-f", "-")
	pod := of(t, p, "web")
	t.Run("logs", func(t *testing.T) { logsOf(t, p, pod) })
	t.Run("exec", func(t *testing.T) { execIn(t, p, pod) })
	t.Run("port-forward", func(t *testing.T) { forwardTo(t, p, pod, address) })
	t.Run("top", func(t *testing.T) { metricsAsAMetricsServer(t, p, "127.0.0.1", "dev-a", pod) })
	t.Run("describe", func(t *testing.T) { described(t, p, "dev-a", pod) })
	t.Run("delete", func(t *testing.T) { deleted(t, p, "web", pod, address) })
}

func described(t *testing.T, p *ControlPlane, node, pod string) {
	text := kubectl(t, p, "describe", "pod", pod)
	for _, want := range []string{"Running", "Started container main", node, "Restart Count:  0"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
			t.Log(kubectl(t, p, "get", "events", "-A", "-o", "wide"))
		}
	}
}

// deleted deletes a deployment, whose program served at an address.
func deleted(t *testing.T, p *ControlPlane, name, pod, address string) {
	kubectl(t, p, "delete", "deployment", name, "--timeout=60s")
	kubectl(t, p, "wait", "--for=delete", "pod/"+pod, "--timeout=60s")
	if conn, err := http.Get("http://" + address); err == nil {
		_ = conn.Body.Close()
		t.Error("the program answers after its pod is gone")
	}
}

func logsOf(t *testing.T, p *ControlPlane, pod string) {
	if out := kubectl(t, p, "logs", pod, "--tail=1", "--timestamps"); !strings.Contains(out, " line ") || strings.Count(out, "\n") != 1 {
		t.Errorf("%q; wanted one line with its time", out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	follow := p.Admin.Command(ctx, "logs", "-f", pod)
	pipe, err := follow.StdoutPipe()
	if err == nil {
		err = follow.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(pipe)
	for i := 1; i <= 20; i++ {
		if !lines.Scan() || lines.Text() != fmt.Sprint("line ", i) {
			t.Fatalf("followed line %d is %q, %v", i, lines.Text(), lines.Err())
		}
	}
	cancel()
	_ = follow.Wait() // killed
}

func execIn(t *testing.T, p *ControlPlane, pod string) {
	if out := kubectl(t, p, "exec", pod, "--", "/app", "env", "WORD"); out != "hush\n" {
		t.Errorf("the secret is %q", out)
	}
	if out := kubectl(t, p, "exec", pod, "--", "/app", "env", "COST"); out != "5$(WORD)\n" {
		t.Errorf("what is escaped is %q", out)
	}
	if out := apply(t, p, "to and fro\n", "exec", "-i", pod, "--", "/app", "cat"); out != "to and fro\n" {
		t.Errorf("stdin came back as %q", out)
	}
	if _, err := p.Admin.Kubectl(t.Context(), "exec", pod, "--", "/app", "exit", "7"); err == nil || !strings.Contains(err.Error(), "exit code 7") {
		t.Errorf("%v; wanted exit code 7", err)
	}
	if _, err := p.Admin.Kubectl(t.Context(), "exec", pod, "--", "/none"); err == nil {
		t.Error("a program that is not there ran")
	}
	if out, err := atTerminal(t, p, "end\r", "exec", "-it", pod, "--", "/app", "terminal"); err != nil || !strings.Contains(out, "columns") {
		t.Errorf("a terminal: %v: %q", err, out)
	}
}

// atTerminal runs kubectl at a terminal at which somebody types.
func atTerminal(t *testing.T, p *ControlPlane, types string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	inner := p.Admin.Command(ctx, args...)
	cmd := exec.CommandContext(ctx, "script", "-qec", strings.Join(inner.Args, " "), "/dev/null")
	cmd.Env, cmd.Stdin = inner.Env, strings.NewReader(types)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func forwardTo(t *testing.T, p *ControlPlane, pod, address string) {
	_, port, _ := strings.Cut(address, ":")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := p.Admin.Command(ctx, "port-forward", "pod/"+pod, ":"+port)
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(pipe).ReadString('\n') // Forwarding from 127.0.0.1:40000 -> 8080
	fields := strings.Fields(line)
	if err != nil || len(fields) < 3 {
		t.Fatalf("%q, %v", line, err)
	}
	for i := range 3 {
		resp, err := http.Get(fmt.Sprintf("http://%s/%d", fields[2], i))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(resp.Body)
		if err = closing(resp.Body, err); err != nil || string(raw) != fmt.Sprintf("hello /%d\n", i) {
			t.Errorf("%q, %v", raw, err)
		}
	}
	cancel()
	_ = cmd.Wait() // killed
}

// metricsAsAMetricsServer asks as metrics-server does: with a token of a service account, at the address that the Node says.
// Names of a cluster are looked up by its DNS, which is this machine here.
func metricsAsAMetricsServer(t *testing.T, p *ControlPlane, host, node, pod string) {
	apply(t, p, `{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: ServiceAccount, metadata: {name: metrics, namespace: kube-system}},
 {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: metrics}, rules: [{apiGroups: [""], resources: [nodes/metrics], verbs: [get]}]},
 {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: metrics}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: metrics},
  subjects: [{kind: ServiceAccount, name: metrics, namespace: kube-system}]}]}`, "apply", "-f", "-")
	port := kubectl(t, p, "get", "node", node, "-o", "jsonpath={.status.daemonEndpoints.kubeletEndpoint.Port}")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.papers.servers.pool()}, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, "127.0.0.1:"+port)
		}}, Timeout: 20 * time.Second}
	ask := func(token, path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+":"+port+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(resp.Body)
		if err = closing(resp.Body, err); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(raw)
	}
	allowed := kubectl(t, p, "-n", "kube-system", "create", "token", "metrics")
	status, text := ask(strings.TrimSpace(allowed), "/metrics/resource")
	for _, want := range []string{"node_memory_working_set_bytes", "node_cpu_usage_seconds_total", `container_memory_working_set_bytes{container="main",namespace="default",pod="` + pod} {
		if status != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("%d, and no %s in\n%s", status, want, text)
		}
	}
	if status, text = ask(strings.TrimSpace(allowed), "/pods"); status != http.StatusForbidden {
		t.Errorf("one who may see metrics sees pods: %d %s", status, text)
	}
	if status, text = ask("nobody", "/metrics/resource"); status != http.StatusUnauthorized {
		t.Errorf("nobody sees metrics: %d %s", status, text)
	}
}

func closing(c io.Closer, err error) error {
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	return err
}
