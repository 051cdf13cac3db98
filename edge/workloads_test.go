package edge

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/workload"
	"github.com/skerry-edge/skerry/edge/workload/conformance"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/test/enrolment"
)

const busybox = "docker.io/library/busybox:1.36"

// worker is an agent that runs workloads, without a link.
type worker struct {
	*Agent
	t     *testing.T
	key   ed25519.PrivateKey
	fake  *conformance.Fake
	stop  func()
	order uint64
}

// working returns an agent with a runtime that does as it is told.
func working(t *testing.T) *worker {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{t: t, key: key, fake: conformance.NewFake("process", busybox)}
	w.Agent = builtWith(t, (&enrolment.Service{Order: pub}).Start(t), func(a *Agent) {
		a.runtimes = func(configs.Workloads) (*runtimes, error) { return &runtimes{list: []workload.Runtime{w.fake}}, nil }
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.workloads.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(w.stop)
	return w
}

// desire gives the agent a signed document, as the broker would.
func (w *worker) desire(list ...api.Workload) {
	w.t.Helper()
	w.order++
	d := &api.Desired{Node: "pump-3", Generation: w.order, Hash: "h", Issued: api.At(time.Now()), Expires: api.At(time.Now().Add(time.Hour)), Workloads: list,
		Policies: []api.Policy{{Name: "p", Kind: "rule"}}}
	signed, err := mqtt.Seal(w.key, mqtt.KindDesired, d)
	if err != nil {
		w.t.Fatal(err)
	}
	payload, err := json.Marshal(signed)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.onDesired(w.t.Context(), mqtt.Topic{}, payload); err != nil {
		w.t.Fatal(err)
	}
}

// reported waits for a report that is as it should be.
func (w *worker) reported(ok func(r *api.Reported) bool) *api.Reported {
	w.t.Helper()
	var last *api.Reported
	for ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second); ; {
		defer cancel()
		var r api.Reported
		err := w.report(ctx, func(_ context.Context, topic string, payload []byte, retain bool) error {
			if !retain || !strings.HasSuffix(topic, "/reported") {
				w.t.Errorf("reported on %s, retained: %t", topic, retain)
			}
			return w.codec.Decode(mqtt.KindReported, payload, &r)
		})
		if err != nil {
			w.t.Fatal(err)
		}
		if last = &r; ok(&r) {
			return &r
		}
		select {
		case <-w.reportDue:
		case <-ctx.Done():
			w.t.Fatalf("last report: %+v", *last)
		}
	}
}

func running(r *api.Reported) bool {
	return len(r.Workloads) > 0 && !slices.ContainsFunc(r.Workloads, func(s api.WorkloadStatus) bool { return s.State != api.WorkloadRunning })
}

func pod(name string, words ...string) api.Workload {
	return api.Workload{Name: name, GraceSeconds: 1, Containers: []api.Container{{Name: "main", Image: busybox, Args: words}}}
}

func TestWhatIsDesiredRunsAndIsReported(t *testing.T) {
	w := working(t)
	equal := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s is %v; wanted %v", what, got, want)
		}
	}
	if b := w.birth(); !slices.Equal(b.Runtimes, []string{"process"}) || b.Host.DiskBytes == 0 {
		t.Errorf("birth tells of runtimes %v on %d bytes", b.Runtimes, b.Host.DiskBytes)
	}
	one := pod("web", "serve")
	w.desire(one)
	r := w.reported(running)
	equal("generation", r.Generation, uint64(1))
	equal("hash", r.Workloads[0].Hash, one.Hash())
	equal("policy", r.Policies[0].State, "rejected")
	gone := pod("old")
	gone.Runtime = "wasm"
	w.desire(gone)
	r = w.reported(func(r *api.Reported) bool { return len(r.Workloads) == 1 && r.Workloads[0].Name == "old" })
	equal("state", r.Workloads[0].State, api.WorkloadRejected)
	equal("reason", r.Workloads[0].Reason, "NoRuntime")
	equal("message", r.Workloads[0].Message, "this node has no runtime wasm; it has process")
}

func TestANodeThatStartsAloneRunsWhatItWasLastTold(t *testing.T) {
	w := working(t)
	w.desire(pod("web", "serve"))
	w.reported(running)
	w.stop()
	w.fake.Reboot()
	if err := w.buildWorkloads(); err != nil { // as a start does
		t.Fatal(err)
	}
	if err := w.loadDesired(w.keeper.Current()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.workloads.Run(ctx) }()
	<-w.workloads.Ready()
	r := w.reported(func(r *api.Reported) bool {
		return running(r) && r.Workloads[0].Containers[0].State == api.ContainerRunning
	})
	if c := r.Workloads[0].Containers[0]; c.Restarts != 1 || c.Last == nil || c.Last.Reason != "ContainerStatusUnknown" {
		t.Errorf("container after a reboot: %+v", c)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAReportThatIsTooLongLosesMessagesBeforeStates(t *testing.T) {
	w := working(t)
	for _, test := range []struct{ workloads, containers int }{{2, 1}, {40, 2}, {100, 4}, {256, 16}} {
		r := &api.Reported{Generation: 1, Epoch: 1}
		for range test.workloads {
			end := &api.Termination{Exit: 1, Reason: "Error", Message: strings.Repeat("m", api.MaxTerminationBytes), Finished: 1}
			s := api.WorkloadStatus{Name: strings.Repeat("w", 36), State: api.WorkloadRunning, Hash: strings.Repeat("h", 64)}
			for range test.containers {
				s.Containers = append(s.Containers, api.ContainerStatus{Name: "main", State: api.ContainerWaiting, Reason: "CrashLoopBackOff", Message: strings.Repeat("m", 80), Last: end})
			}
			r.Workloads = append(r.Workloads, s)
		}
		payload, err := w.fit(r)
		if err != nil {
			t.Fatal(err)
		}
		var got api.Reported
		if err := w.codec.Decode(mqtt.KindReported, payload, &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Workloads) != test.workloads || got.Workloads[0].State != api.WorkloadRunning {
			t.Errorf("%d workloads of %d, %+v", len(got.Workloads), test.workloads, got.Workloads[0])
		}
		told := got.Workloads[0].Containers
		if test.workloads == 2 && told[0].Last.Message == "" || test.workloads < 256 && (len(told) != test.containers || told[0].Reason != "CrashLoopBackOff") {
			t.Errorf("%d workloads: %+v", test.workloads, got.Workloads[0])
		}
	}
}
