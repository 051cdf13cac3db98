package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/kube"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// needKube skips a test when the control plane was not built, or there are no namespaces to put it beside; under CI=true it fails.
func needKube(t *testing.T) {
	t.Helper()
	needRoot(t)
	if _, err := kube.Part("kube-apiserver"); err == nil {
		return
	} else if os.Getenv("CI") == "true" {
		t.Fatal(err)
	} else {
		t.Skip(err)
	}
}

// TestEveryFaultOfKubernetesBites has each felt at each of its targets, in one of the ways that it can be.
func TestEveryFaultOfKubernetesBites(t *testing.T) {
	needKube(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "skfault-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			_ = os.RemoveAll(dir)
		}
	})
	job := Job{Prefix: fmt.Sprintf("%s%d-kube-", spacePrefix, os.Getpid()), Dir: filepath.Join(dir, "bite"), Bin: programs(t), Bites: true,
		Length: time.Minute, Nodes: 3, Speed: 1, Profile: Profiles()["kube"], Only: os.Getenv("SKERRY_FAULT_ONLY")}
	list, err := job.isolate(t.Context(), self)
	if err != nil {
		t.Error(err)
	}
	if len(list) != 1 || list[0].Faults["apiserver"] == 0 || list[0].Faults["watch"] == 0 || list[0].Faults["conflict"] == 0 {
		t.Errorf("%d outcomes; wanted one with every kind", len(list))
	}
	for _, o := range list {
		for _, v := range o.Violations {
			t.Error(v)
		}
	}
	if t.Failed() {
		raw, err := os.ReadFile(filepath.Join(job.Dir, "harness.log"))
		t.Logf("%s%v", raw, err)
	}
}

func TestKubernetesChangesNoScheduleWithoutIt(t *testing.T) {
	with := Make(3, Profile{Name: "all", Kube: true}, 3*time.Minute)
	seen := 0
	for _, k := range kubeKinds() {
		if s := Make(3, Profile{Name: "all"}, 3*time.Minute); s.touches(k.Name, "") {
			t.Errorf("%s in a schedule without Kubernetes", k.Name)
		}
		for seed := range uint64(50) {
			if s := Make(seed, Profile{Name: "all", Kube: true}, 3*time.Minute); s.touches(k.Name, "") {
				seen++
				break
			}
		}
	}
	if seen != len(kubeKinds()) || len(with.Events) == 0 {
		t.Errorf("%d of %d kinds are in fifty schedules with Kubernetes", seen, len(kubeKinds()))
	}
	for _, kinds := range [][]string{{"watch"}, {"kill", "conflict"}} {
		if p, err := ProfileOf("all", kinds); err != nil || !p.Kube {
			t.Errorf("%v is without Kubernetes: %v", kinds, err)
		}
	}
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// oneDevice is a world in which everything agrees, about one device with a pod.
func oneDevice(t *testing.T) (*world, map[string]podMark) {
	w := &world{listed: []string{"n1"}, devices: map[string]api.Node{"n1": {ID: "n1", Presence: api.PresenceOnline, Reported: &api.Reported{Workloads: []api.WorkloadStatus{
		{Name: "u1", State: api.WorkloadRunning, Runtime: "process", Containers: []api.ContainerStatus{{Name: "main", ID: "c1"}}}}}}},
		nodes: map[string]kubeNode{"n1": decode[kubeNode](t, `{"metadata":{"name":"n1","labels":{"mlsysops.eu/layer":"node"}},"spec":{"taints":[{"key":"mlsysops.eu/far-edge"}]},
 "status":{"conditions":[{"type":"Ready","status":"True"},{"type":"mlsysops.eu/Connected","status":"True"}]}}`)},
		objects: map[string]kubeObject{"n1": decode[kubeObject](t, `{"metadata":{"name":"n1"},"status":{"presence":"online","conditions":[{"type":"Ready","status":"True"}]}}`)},
		pods: map[string]kubePod{"n1": decode[kubePod](t, `{"metadata":{"name":"on-n1","uid":"u1"},"spec":{"nodeName":"n1"},"status":{"phase":"Running",
 "conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"containerID":"process://c1","restartCount":0,"ready":true}]}}`)}}
	return w, map[string]podMark{"n1": {Name: "on-n1", UID: "u1", Container: "process://c1"}}
}

func TestWhatDoesNotAgreeIsSeen(t *testing.T) {
	edit := func(w *world, text string) { w.pods["n1"] = decode[kubePod](t, text) }
	pod := func(uid, container, restarts, more string) string {
		return fmt.Sprintf(`{"metadata":{"name":"on-n1","uid":%q%s},"spec":{"nodeName":"n1"},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}],
 "containerStatuses":[{"containerID":%q,"restartCount":%s}]}}`, uid, more, container, restarts)
	}
	for name, c := range map[string]struct {
		breakIt func(w *world)
		want    string
	}{
		"sound":                     {func(*world) {}, ""},
		"no Node":                   {func(w *world) { delete(w.nodes, "n1") }, "device n1 is no Node"},
		"no MLSysOpsNode":           {func(w *world) { delete(w.objects, "n1") }, "device n1 is no MLSysOpsNode"},
		"not listed":                {func(w *world) { w.listed = nil }, "MLSysOpsCluster lists []"},
		"a Node of nobody":          {func(w *world) { w.nodes["n2"] = w.nodes["n1"] }, "a Node n2, and no device"},
		"an MLSysOpsNode of nobody": {func(w *world) { w.objects["n2"] = w.objects["n1"] }, "an MLSysOpsNode n2, and no device"},
		"an object that is behind": {func(w *world) {
			w.devices["n1"] = api.Node{ID: "n1", Presence: api.PresenceLost, Reported: w.devices["n1"].Reported}
		}, "the device is lost"},
		"a pod that is gone":         {func(w *world) { delete(w.pods, "n1") }, "pod on-n1 of n1 is gone"},
		"another pod":                {func(w *world) { edit(w, pod("u2", "process://c1", "0", "")) }, "it was {Name:on-n1 UID:u1"},
		"another container":          {func(w *world) { edit(w, pod("u1", "process://c2", "0", "")) }, "it was {Name:on-n1 UID:u1"},
		"a restart":                  {func(w *world) { edit(w, pod("u1", "process://c1", "1", "")) }, "it was {Name:on-n1 UID:u1"},
		"a pod that is to go":        {func(w *world) { edit(w, pod("u1", "process://c1", "0", `,"deletionTimestamp":"2026-01-01T00:00:00Z"`)) }, "pod on-n1 is Running"},
		"a device that runs nothing": {func(w *world) { w.devices["n1"] = api.Node{ID: "n1", Presence: api.PresenceOnline} }, "device n1 runs []"},
		"a Node that is not Ready": {func(w *world) {
			w.nodes["n1"] = decode[kubeNode](t, `{"spec":{"taints":[{"key":"mlsysops.eu/far-edge"}]},"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}`)
		}, "Node n1 is not Ready"},
		"a label of somebody else's": {func(w *world) {
			n := w.nodes["n1"]
			n.Metadata.Labels = map[string]string{layerLabel: "foreign"}
			w.nodes["n1"] = n
		}, "layer=foreign"},
		"a taint that stayed": {func(w *world) {
			n := w.nodes["n1"]
			n.Spec.Taints = append(n.Spec.Taints[:1:1], struct{ Key, Effect string }{"node.kubernetes.io/unreachable", "NoSchedule"})
			w.nodes["n1"] = n
		}, "has the taints"},
	} {
		w, marks := oneDevice(t)
		c.breakIt(w)
		text := strings.Join(w.differences(marks), "\n")
		if c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q; wanted %q", name, text, c.want)
		}
	}
	if bad := differentRuns(map[string][]int{"a": {1}, "b": {7}}, map[string][]int{"a": {1}, "b": {8}}); len(bad) != 1 || !strings.Contains(bad[0], "containers on b") {
		t.Errorf("%v; wanted what runs on b anew", bad)
	}
}

func TestAPodThatWouldBeEvictedIsNotPatient(t *testing.T) {
	for text, want := range map[string]bool{
		`{"spec":{"tolerations":[{"key":"mlsysops.eu/far-edge"}]}}`:                                           true,
		`{"spec":{"tolerations":[{"key":"node.kubernetes.io/unreachable","tolerationSeconds":86400}]}}`:       true,
		`{"spec":{"tolerations":[{"key":"node.kubernetes.io/unreachable","tolerationSeconds":5}]}}`:           false,
		`{"spec":{"tolerations":[{"key":"node.kubernetes.io/not-ready","tolerationSeconds":0},{"key":"x"}]}}`: false,
	} {
		p := decode[kubePod](t, text)
		if got := patient(&p); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestAnObjectTellsEveryEndThatItEverHad reads lives from NodeCommands and from what was seen of them.
func TestAnObjectTellsEveryEndThatItEverHad(t *testing.T) {
	done := `{"metadata":{"name":"a","uid":"u1"},"status":{"id":"kube-u1","phase":"succeeded","history":[{"phase":"running","side":"node"},{"phase":"succeeded","side":"node"}]}}`
	late := `{"metadata":{"name":"a","uid":"u1"},"status":{"id":"kube-u1","phase":"timed_out","outcome":"succeeded","history":[{"phase":"timed_out","side":"cluster"},
 {"phase":"timed_out","side":"node","reason":"late: succeeded"}]}}`
	never := `{"metadata":{"name":"a","uid":"u1"},"status":{"phase":"expired","history":[{"phase":"expired","side":"cluster"}]}}`
	for name, c := range map[string]struct {
		text string
		seen []string
		want string // ends, said, late, unordered
	}{
		"sound":              {done, []string{"queued", "running", "succeeded"}, "[succeeded] [] false"},
		"late":               {late, []string{"running", "timed_out"}, "[timed_out] [succeeded] succeeded false"},
		"never ordered":      {never, []string{"expired"}, "[expired] [] true"},
		"open":               {`{"metadata":{"uid":"u1"},"status":{"id":"x","phase":"running"}}`, []string{"running"}, "[] [] false"},
		"an end taken back":  {done, []string{"failed", "succeeded"}, "[succeeded succeeded] [] false"},
		"running once ended": {done, []string{"succeeded", "running", "succeeded"}, "[succeeded running succeeded] [] false"},
	} {
		o := decode[nodeCommand](t, c.text)
		l := lifeOf(&o, c.seen)
		if got := strings.Join(strings.Fields(fmt.Sprintln(l.Finals, l.Said, l.Late, l.Unordered)), " "); got != c.want {
			t.Errorf("%s: %s; wanted %s", name, got, c.want)
		}
	}
}

func TestAnOrderWhoseObjectIsMissingIsDue(t *testing.T) {
	v := &kubeView{tier: &kubeTier{}}
	orders := []account.Order{{ID: "kube-u1", Via: viaKube, Answered: true}, {ID: "kube-u2", Via: viaKube}, {ID: "r", Via: "rest", Answered: true}}
	lives, open := v.read(nil, orders)
	if len(lives) != 1 || !lives["kube-u1"].Due || open != &orders[0] {
		t.Errorf("%+v, open %+v; wanted an end of what was answered for, and of nothing else", lives, open)
	}
	ended := decode[nodeCommand](t, `{"metadata":{"uid":"u1"},"status":{"id":"kube-u1","phase":"failed"}}`)
	if lives, open = v.read([]nodeCommand{ended}, orders); open != nil || len(lives["kube-u1"].Finals) != 1 {
		t.Errorf("%+v, open %+v", lives, open)
	}
}

// TestAFrontPassesUntilItDoesNot goes through its manners with an echo behind it.
func TestAFrontPassesUntilItDoesNot(t *testing.T) {
	back, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { back.Close() })
	go func() { // ends with the test
		for conn, err := back.Accept(); err == nil; conn, err = back.Accept() {
			go func() { _, _ = io.Copy(conn, conn); conn.Close() }()
		}
	}()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f := newFront(func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", back.Addr().String())
	})
	served := make(chan struct{})
	go func() { f.serve(ctx, ln); close(served) }()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	answers := func(conn net.Conn) bool { return roundTrip(conn, 1, 30*time.Second) == nil }
	silent := func(conn net.Conn) bool { return roundTrip(conn, 1, time.Second) != nil }
	old := dial()
	if !answers(old) {
		t.Error("nothing passes")
	}
	f.kill()
	if !silent(old) || !answers(dial()) {
		t.Error("a dead connection answers, or a new one does not")
	}
	f.treat(cuts)
	cut := dial()
	if err := cut.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := cut.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("a connection lasts: %v", err)
	}
	f.treat(refuses)
	if !silent(dial()) {
		t.Error("a connection is let in")
	}
	f.treat(passes)
	if !answers(dial()) || !silent(old) {
		t.Error("nothing passes afterwards, or what was dead is back")
	}
	cancel()
	select {
	case <-served:
	case <-time.After(30 * time.Second):
		t.Error("it goes on")
	}
}
