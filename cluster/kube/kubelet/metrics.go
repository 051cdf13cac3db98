package kubelet

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

func (s *Server) pods(w http.ResponseWriter, req *http.Request, c *call) error {
	list, err := s.Pods.On(req.Context(), c.node)
	if err != nil {
		return err
	}
	out := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: list}
	if out.Items == nil {
		out.Items = []corev1.Pod{}
	}
	return writeJSON(w, out)
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

// metrics is /metrics/resource, which metrics-server reads: the names, labels and types of a kubelet.
func (s *Server) metrics(w http.ResponseWriter, req *http.Request, c *call) error {
	u, pods, err := s.usage(req, c.node)
	if err != nil {
		return err
	}
	var b strings.Builder
	family := func(name, kind, help string) { fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind) }
	at := u.At.UnixMilli()
	family("node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds")
	fmt.Fprintf(&b, "node_cpu_usage_seconds_total %g %d\n", u.CPUSeconds, at)
	family("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes")
	fmt.Fprintf(&b, "node_memory_working_set_bytes %d %d\n", u.MemoryBytes, at)
	each := func(name, kind, help string, value func(*ContainerUsage) string) {
		family(name, kind, help)
		for i := range u.Containers {
			k := &u.Containers[i]
			if p, ok := pods[k.Workload]; ok {
				fmt.Fprintf(&b, "%s{container=%q,namespace=%q,pod=%q} %s %d\n", name, k.Container, p.Namespace, p.Name, value(k), at)
			}
		}
	}
	each("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the container in core-seconds",
		func(k *ContainerUsage) string { return fmt.Sprintf("%g", k.CPUSeconds) })
	each("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes",
		func(k *ContainerUsage) string { return fmt.Sprint(k.MemoryBytes) })
	each("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds",
		func(k *ContainerUsage) string { return fmt.Sprintf("%.3f", float64(k.Started.UnixMilli())/1000) })
	sums := byPod(u.Containers)
	sum := func(name, kind, help string, value func(podUsage) string) {
		family(name, kind, help)
		for _, p := range sums {
			if ref, ok := pods[p.uid]; ok {
				fmt.Fprintf(&b, "%s{namespace=%q,pod=%q} %s %d\n", name, ref.Namespace, ref.Name, value(p), at)
			}
		}
	}
	sum("pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the pod in core-seconds", func(p podUsage) string { return fmt.Sprintf("%g", p.cpu) })
	sum("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes", func(p podUsage) string { return fmt.Sprint(p.memory) })
	family("resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise")
	b.WriteString("resource_scrape_error 0\n")
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, err = w.Write([]byte(b.String()))
	return err
}

// usage asks the device, and finds the pods that its containers belong to.
func (s *Server) usage(req *http.Request, node string) (*Usage, map[string]*corev1.Pod, error) {
	list, err := s.Pods.On(req.Context(), node)
	if err != nil {
		return nil, nil, err
	}
	u, err := s.Gauges.Usage(req.Context(), node)
	if err != nil {
		return nil, nil, err
	}
	pods := map[string]*corev1.Pod{}
	for i := range list {
		pods[string(list[i].UID)] = &list[i]
	}
	slices.SortFunc(u.Containers, func(a, b ContainerUsage) int {
		return cmp.Or(cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Container, b.Container))
	})
	return u, pods, nil
}

type podUsage struct {
	uid    string
	cpu    float64
	memory uint64
}

// byPod adds up containers, which are sorted by their workload.
func byPod(list []ContainerUsage) (out []podUsage) {
	for _, c := range list {
		if len(out) == 0 || out[len(out)-1].uid != c.Workload {
			out = append(out, podUsage{uid: c.Workload})
		}
		last := &out[len(out)-1]
		last.cpu += c.CPUSeconds
		last.memory += c.MemoryBytes
	}
	return out
}

// summary is /stats/summary, with what a device knows.
func (s *Server) summary(w http.ResponseWriter, req *http.Request, c *call) error {
	u, pods, err := s.usage(req, c.node)
	if err != nil {
		return err
	}
	at := metav1.NewTime(u.At)
	out := stats.Summary{Node: stats.NodeStats{NodeName: c.node, StartTime: metav1.NewTime(time.UnixMilli(int64(u.StartSeconds * 1000))),
		CPU: cpu(at, u.CPUSeconds), Memory: &stats.MemoryStats{Time: at, WorkingSetBytes: &u.MemoryBytes}}, Pods: []stats.PodStats{}}
	for i := range u.Containers {
		k := &u.Containers[i]
		p, ok := pods[k.Workload]
		if !ok {
			continue
		}
		if n := len(out.Pods); n == 0 || out.Pods[n-1].PodRef.UID != k.Workload {
			one := stats.PodStats{PodRef: stats.PodReference{Name: p.Name, Namespace: p.Namespace, UID: k.Workload}}
			if p.Status.StartTime != nil {
				one.StartTime = *p.Status.StartTime
			}
			out.Pods = append(out.Pods, one)
		}
		pod := &out.Pods[len(out.Pods)-1]
		pod.Containers = append(pod.Containers, stats.ContainerStats{Name: k.Container, StartTime: metav1.NewTime(k.Started), CPU: cpu(at, k.CPUSeconds),
			Memory: &stats.MemoryStats{Time: at, WorkingSetBytes: &k.MemoryBytes, RSSBytes: &k.RSSBytes}})
	}
	for _, sum := range byPod(u.Containers) {
		place := slices.IndexFunc(out.Pods, func(p stats.PodStats) bool { return p.PodRef.UID == sum.uid })
		if place >= 0 {
			out.Pods[place].CPU, out.Pods[place].Memory = cpu(at, sum.cpu), &stats.MemoryStats{Time: at, WorkingSetBytes: &sum.memory}
		}
	}
	return writeJSON(w, out)
}

func cpu(at metav1.Time, seconds float64) *stats.CPUStats {
	total := uint64(seconds * 1e9)
	return &stats.CPUStats{Time: at, UsageCoreNanoSeconds: &total}
}
