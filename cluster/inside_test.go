package cluster

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/command"
	"github.com/skerry-edge/skerry/cluster/kube/kubelet"
	"github.com/skerry-edge/skerry/mqtt"
)

// podVerbs are those that the kubelet API asks for.
func podVerbs() (out []api.Verb) {
	for _, name := range []string{"workload.logs", "workload.exec", "workload.attach", "workload.forward", "workload.stats"} {
		out = append(out, api.Verb{Name: name, Role: api.RoleOperator, Safe: name == "workload.stats", Stream: name != "workload.stats", Args: api.Schema{Type: "object"}})
	}
	return out
}

func TestWhatPeopleDoInPodsWithKubectlIsInTheAuditLog(t *testing.T) {
	r := newRig(t, nil)
	d := r.online("n1", r.enrol("n1"), 1, false)
	d.announce(2, podVerbs(), nil)
	eventually(t, "announced", func() bool { n, _ := r.registry.Get("n1"); return n.Epoch == 2 })
	const who = "kube-apiserver"
	c := kubelet.Container{Node: "n1", Pod: "barn/web", Workload: "u1", Name: "main"}
	s := inside{r.streams}
	for action, ask := range map[string]func(context.Context, kubelet.Container) error{
		"pod.logs": func(ctx context.Context, c kubelet.Container) error {
			return s.Logs(ctx, who, c, kubelet.Logs{Tail: -1}, io.Discard)
		},
		"pod.exec": func(ctx context.Context, c kubelet.Container) error {
			_, err := s.Exec(ctx, who, c, []string{"echo", "secret"}, kubelet.Streams{})
			return err
		},
		"pod.attach": func(ctx context.Context, c kubelet.Container) error {
			_, err := s.Exec(ctx, who, c, nil, kubelet.Streams{})
			return err
		},
		"pod.forward": func(ctx context.Context, c kubelet.Container) error {
			return s.Forward(ctx, who, c, 8080, struct {
				io.Reader
				io.WriteCloser
			}{strings.NewReader(""), nopCloser{}})
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- ask(ctx, c) }()
		entry := func() (e api.AuditEntry) {
			for _, e := range r.audited() {
				if e.Action == action {
					return e
				}
			}
			return e
		}
		eventually(t, action+" is in the audit log while it lasts", func() bool { return entry().Action == action })
		if e := entry(); e.By != who || e.Via != viaKube || e.Result != "ok" || !strings.HasPrefix(e.Object, "n1:barn/web") || strings.Contains(e.Object, "secret") {
			t.Errorf("%s: %+v", action, e)
		}
		cancel()
		<-ended // with an error: the device never answers
		away := c
		away.Node = "nobody"
		if err := ask(t.Context(), away); err == nil {
			t.Errorf("%s of a node that nobody knows", action)
		} else if e := entry(); !strings.HasPrefix(e.Object, "nobody:") || e.Result == "ok" {
			t.Errorf("%s that did not begin: %+v", action, e)
		}
	}
	list, err := r.journal.List(command.Filter{Node: "n1"})
	if err != nil || len(list) != 4 {
		t.Fatalf("%d commands, %v; wanted the four", len(list), err)
	}
	for _, rec := range list {
		if rec.By != "kube:"+who {
			t.Errorf("the journal has %s by %s", rec.Verb, rec.By)
		}
	}
}

type nopCloser struct{}

func (nopCloser) Write(p []byte) (int, error) { return len(p), nil }
func (nopCloser) Close() error                { return nil }

// TestAScrapeOfMetricsLeavesNoCommand: what containers use is asked of the device, again and again.
func TestAScrapeOfMetricsLeavesNoCommand(t *testing.T) {
	r := newRig(t, nil)
	s := inside{r.streams}
	if _, err := s.Usage(t.Context(), "nobody"); err == nil {
		t.Error("a node that nobody knows has a usage")
	}
	d := r.online("n1", r.enrol("n1"), 2, true)
	d.announce(2, podVerbs(), nil)
	eventually(t, "announced", func() bool { v, _ := r.registry.Verbs("n1"); return len(v) == len(podVerbs()) })
	for range 3 {
		if _, err := s.Usage(t.Context(), "n1"); err != nil {
			t.Fatal(err)
		}
	}
	d.say(r.topic(mqtt.KindState, "n1", ""), true, api.State{State: api.StateOffline, Epoch: 2, Boot: "b", At: api.At(time.Now()), Reason: "stopped"})
	eventually(t, "offline", func() bool { n, _ := r.registry.Get("n1"); return n.Presence == api.PresenceOffline })
	if _, err := s.Usage(t.Context(), "n1"); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("of a device that is away: %v", err)
	}
	if list, err := r.journal.List(command.Filter{}); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v; wanted none", list, err)
	}
}
