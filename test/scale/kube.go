package scale

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/test/kube"
)

// Kube is what it costs to have many devices as nodes of a Kubernetes cluster. Times are in seconds.
type Kube struct {
	Nodes       int     `json:"nodes"`
	Pods        int     `json:"pods"`
	ReadyTook   float64 `json:"readySeconds"`       // from the first connection to the last Node Ready
	RunningTook float64 `json:"podsRunningSeconds"` // from the DaemonSet to its last pod Ready
	Idle        Quiet   `json:"idle"`
	WithPods    *Quiet  `json:"withPods,omitempty"`
}

// Quiet is a while in which nothing happens.
type Quiet struct {
	Phase
	*Asked
	APIServer int64   `json:"apiServerRssBytes"`
	APICPU    float64 `json:"apiServerCpuPercentOfCore"`
	KineCPU   float64 `json:"kineCpuPercentOfCore"`
}

// bridged is a cluster agent under nodes, with a control plane.
type bridged struct {
	*site
	plane *kube.ControlPlane
	audit *audit
}

// RunKube has cfg.Nodes devices become nodes, holds them idle, then with a pod on each.
func RunKube(ctx context.Context, cfg Config, hold time.Duration, pods bool) (k *Kube, err error) {
	k = &Kube{Nodes: cfg.Nodes}
	dir, err := os.MkdirTemp("", "kscale")
	if err != nil {
		return k, err
	}
	policy, log := filepath.Join(dir, "audit.yaml"), filepath.Join(dir, "audit.log")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return k, err
	}
	cfg.Say("start a control plane in %s", dir)
	plane, err := kube.New(ctx, filepath.Join(dir, "plane"), kube.Options{APIServer: []string{"--audit-policy-file=" + policy, "--audit-log-path=" + log, "--audit-log-maxsize=20000"}})
	defer func() {
		if err = errors.Join(err, plane.Close()); err == nil {
			err = os.RemoveAll(dir)
		}
	}()
	if err != nil {
		return k, err
	}
	config := filepath.Join(dir, "kubeconfig")
	if err := plane.Admit(ctx, config, ""); err != nil {
		return k, err
	}
	first, err := freePorts(cfg.Nodes)
	if err != nil {
		return k, err
	}
	cfg.Runtimes = []string{"simulated"}
	cfg.Settings = append([]string{"mode=kube", "kube.kubeconfig=" + config, fmt.Sprintf("kube.kubelet_listen=127.0.0.1:%d", first),
		fmt.Sprintf("kube.kubelet_ports=%d", cfg.Nodes)}, cfg.Settings...)
	err = with(ctx, cfg, func(ctx context.Context, s *site) error {
		return k.fill(ctx, &bridged{s, plane, &audit{path: log}}, hold, pods)
	})
	return k, err
}

// freePorts finds so many in a row, where nobody else takes one by chance.
func freePorts(count int) (first int, err error) {
	for first = 10300; first+count < 32768; first += count {
		if err = portsFree(first, count); err == nil {
			return first, nil
		}
	}
	return 0, fmt.Errorf("find %d free ports: %w", count, err)
}

func portsFree(first, count int) error {
	for port := first; port < first+count; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

// calmAfter is how long everything gets to come to rest.
const calmAfter = time.Minute

func (k *Kube) fill(ctx context.Context, b *bridged, hold time.Duration, pods bool) error {
	begin := time.Now()
	if err := b.ramp(ctx); err != nil {
		return err
	}
	b.cfg.Say("wait until all are nodes that are Ready")
	if err := b.until(ctx, "nodes are Ready", k.Nodes, b.ready); err != nil {
		return err
	}
	k.ReadyTook = time.Since(begin).Seconds()
	if err := b.quiet(ctx, hold, &k.Idle); err != nil || !pods {
		return err
	}
	begin = time.Now()
	b.cfg.Say("a pod on each")
	if err := b.plane.Do(ctx, http.MethodPost, "/apis/apps/v1/namespaces/default/daemonsets", daemonSet(), nil); err != nil {
		return err
	}
	if err := b.until(ctx, "pods are Ready", k.Nodes, b.running); err != nil {
		return err
	}
	k.Pods, k.RunningTook, k.WithPods = k.Nodes, time.Since(begin).Seconds(), &Quiet{}
	return b.quiet(ctx, hold, k.WithPods)
}

// quiet holds, and counts.
func (b *bridged) quiet(ctx context.Context, hold time.Duration, q *Quiet) error {
	if !agent.Wait(ctx, calmAfter) {
		return ctx.Err()
	}
	b.cfg.Say("hold for %s", hold)
	if err := b.audit.skip(); err != nil {
		return err
	}
	cpu := func(part string) float64 {
		s, err := cpuSeconds(fmt.Sprint(b.plane.Pid(part)))
		if err != nil {
			return 0
		}
		return s
	}
	api, kine, phase := cpu("kube-apiserver"), cpu("kine"), b.watch.begin()
	if !agent.Wait(ctx, hold) {
		return ctx.Err()
	}
	q.Phase = b.watch.end(phase)
	q.APICPU, q.KineCPU = 100*(cpu("kube-apiserver")-api)/q.Seconds, 100*(cpu("kine")-kine)/q.Seconds
	q.APIServer = rssBytes(b.plane.Pid("kube-apiserver"))
	var err error
	q.Asked, err = b.audit.take(kube.AgentUser)
	return err
}

// until waits until count says so many.
func (b *bridged) until(ctx context.Context, what string, want int, count func(ctx context.Context) (int, error)) error {
	limit := 10*time.Minute + time.Duration(want)*time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		got, err := count(ctx)
		if err == nil && got >= want {
			return nil
		}
		if !agent.Wait(ctx, 2*time.Second) {
			return fmt.Errorf("%d of %d %s after %s: %w", got, want, what, limit, errors.Join(ctx.Err(), err))
		}
	}
}

// ready counts the Nodes that are.
func (b *bridged) ready(ctx context.Context) (count int, err error) {
	var list struct {
		Items []struct {
			Status struct {
				Conditions []struct{ Type, Status string }
			}
		}
	}
	if err := b.plane.Do(ctx, http.MethodGet, "/api/v1/nodes", nil, &list); err != nil {
		return 0, err
	}
	for _, n := range list.Items {
		for _, c := range n.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" {
				count++
			}
		}
	}
	return count, nil
}

// running counts the pods of the DaemonSet that are Ready.
func (b *bridged) running(ctx context.Context) (int, error) {
	var set struct {
		Status struct {
			NumberReady int `json:"numberReady"`
		}
	}
	err := b.plane.Do(ctx, http.MethodGet, "/apis/apps/v1/namespaces/default/daemonsets/everywhere", nil, &set)
	return set.Status.NumberReady, err
}

func daemonSet() map[string]any {
	labels := map[string]any{"app": "everywhere"}
	return map[string]any{"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": map[string]any{"name": "everywhere"}, "spec": map[string]any{
		"selector": map[string]any{"matchLabels": labels}, "template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{
			"tolerations": []any{map[string]any{"operator": "Exists"}}, "hostNetwork": true,
			"containers": []any{map[string]any{"name": "main", "image": "registry.test/app:1"}}}}}}
}
