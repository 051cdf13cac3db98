package kube

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// lonePod is a pod on a node: name, node.
const lonePod = `{apiVersion: v1, kind: Pod, metadata: {name: %s, labels: {bench: "yes"}}, spec: {nodeSelector: {kubernetes.io/hostname: %s}, tolerations: [{key: mlsysops.eu/far-edge, operator: Exists}],
 hostNetwork: true, terminationGracePeriodSeconds: 0, containers: [{name: main, image: registry.test/app:1, args: [count]}]}}`

// arrivals are the moments at which pods were first seen Running.
type arrivals struct {
	mu   sync.Mutex
	at   map[string]time.Time
	news chan struct{}
}

// watchRunning follows the pods with kubectl until the benchmark ends.
func watchRunning(b *testing.B, p *ControlPlane) *arrivals {
	cmd := p.Admin.Command(b.Context(), "get", "pods", "-l", "bench=yes", "-w", "--no-headers", "-o", "custom-columns=N:.metadata.name,P:.status.phase")
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	a := &arrivals{at: map[string]time.Time{}, news: make(chan struct{}, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			f := strings.Fields(lines.Text())
			if len(f) != 2 || f[1] != "Running" {
				continue
			}
			a.mu.Lock()
			if a.at[f[0]].IsZero() {
				a.at[f[0]] = time.Now()
			}
			a.mu.Unlock()
			select {
			case a.news <- struct{}{}:
			default:
			}
		}
	}()
	b.Cleanup(func() { <-done; _ = cmd.Wait() }) // the context has killed it
	return a
}

// of waits for one pod.
func (a *arrivals) of(b *testing.B, pod string) time.Time {
	limit := time.NewTimer(2 * time.Minute)
	defer limit.Stop()
	for {
		a.mu.Lock()
		at := a.at[pod]
		a.mu.Unlock()
		if !at.IsZero() {
			return at
		}
		select {
		case <-a.news:
		case <-limit.C:
			b.Fatalf("pod %s does not run", pod)
		}
	}
}

// BenchmarkFromApplyToRunning applies pods one after another, spread over ten devices that have the image, and reports how long it takes
// from the beginning of kubectl apply, and from its end, until a watch shows the pod Running. `-benchtime 100x` is the figure of
// docs/sizing.md.
func BenchmarkFromApplyToRunning(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("takes root: containers")
	}
	const devices = 10
	p := Start(b, Options{})
	s := newSite(b, p, "bench")
	s.stand("leading")
	s.importApp()
	for i := range devices {
		s.node(fmt.Sprint("dev-", i))
	}
	running := watchRunning(b, p)
	for i := range devices { // the image is there afterwards
		s.conditionBecomes(fmt.Sprint("node/dev-", i), "Ready", "True", time.Minute)
		name := fmt.Sprint("first-", i)
		apply(b, p, fmt.Sprintf(lonePod, name, fmt.Sprint("dev-", i)), "create", "-f", "-")
		running.of(b, name)
		kubectl(b, p, "delete", "pod", name)
	}
	var whole, after []time.Duration
	b.ResetTimer()
	for i := range b.N {
		name := fmt.Sprint("pod-", i)
		begun := time.Now()
		apply(b, p, fmt.Sprintf(lonePod, name, fmt.Sprint("dev-", i%devices)), "apply", "-f", "-")
		applied := time.Now()
		at := running.of(b, name)
		whole, after = append(whole, at.Sub(begun)), append(after, max(0, at.Sub(applied)))
	}
	for name, list := range map[string][]time.Duration{"whole": whole, "after-apply": after} {
		slices.Sort(list)
		for _, q := range []int{50, 95} {
			b.ReportMetric(float64(list[(len(list)-1)*q/100].Microseconds())/1000, fmt.Sprintf("ms-p%d-%s", q, name))
		}
	}
}
