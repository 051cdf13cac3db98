package vnode

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/bridge"
)

func aPod(uid string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: uid, UID: types.UID(uid)}}
}

func aWorkload(uid, image string) api.Workload {
	return api.Workload{Name: uid, Pod: &api.PodRef{Namespace: "default", Name: uid, UID: uid}, GraceSeconds: 30, Containers: []api.Container{{Name: "main", Image: image}}}
}

func names(ws []api.Workload) (out []string) {
	for _, w := range ws {
		out = append(out, w.Name)
	}
	return out
}

func TestWhatDidNotComeFromAPodIsLeftAlone(t *testing.T) {
	own := api.Workload{Name: "by-hand", Containers: []api.Container{{Name: "a", Image: "i"}}}
	want := aWorkload("u1", "i")
	got := plan([]api.Workload{aWorkload("stale", "i"), own}, []bound{{pod: aPod("u1"), want: &want}})
	if !slices.Equal(names(got), []string{"by-hand", "u1"}) {
		t.Errorf("%v", names(got))
	}
}

func TestARunningPodIsNotReplacedForASecretThatChanged(t *testing.T) {
	have, want := aWorkload("u1", "i"), aWorkload("u1", "i")
	have.Sealed = &api.Sealed{ID: "a", Key: "k", Data: []byte("x")}
	want.Sealed = &api.Sealed{ID: "b", Key: "k", Data: []byte("y")}
	if got := plan([]api.Workload{have}, []bound{{pod: aPod("u1"), want: &want}}); got[0].Sealed.ID != "a" {
		t.Error("a changed Secret restarts the pod")
	}
	if got := plan([]api.Workload{have}, []bound{{pod: aPod("u1"), want: &want, renews: true}}); got[0].Sealed.ID != "b" {
		t.Error("a changed Secret does not reach a device that takes it without a new start")
	}
	want.Sealed.Key = "other"
	if got := plan([]api.Workload{have}, []bound{{pod: aPod("u1"), want: &want}}); got[0].Sealed.ID != "b" {
		t.Error("a device with a new key cannot read its secrets")
	}
	want = aWorkload("u1", "i2")
	want.Sealed = have.Sealed
	if got := plan([]api.Workload{have}, []bound{{pod: aPod("u1"), want: &want}}); got[0].Containers[0].Image != "i2" {
		t.Error("another image does not reach the device")
	}
	if got := plan([]api.Workload{have}, []bound{{pod: aPod("u1"), failed: &bridge.Missing{What: []string{"secret"}}}}); len(got) != 1 {
		t.Error("a Secret that was deleted stops the pod that runs")
	}
}

// A kubelet resolves labels and amounts when a container starts, and lets a shorter deadline count at once.
func TestARunningPodIsNotReplacedForALabelOrADeadline(t *testing.T) {
	have, want := aWorkload("u1", "i"), aWorkload("u1", "i")
	want.Containers[0].Env, want.Containers[0].Args = []api.EnvVar{{Name: "TIER", Value: "new"}}, []string{"new"}
	want.Sealed = &api.Sealed{ID: "b", Key: "k", Data: []byte("optional, and there now")}
	p := aPod("u1")
	p.Spec.ActiveDeadlineSeconds = new(int64(60))
	for _, b := range []bound{{pod: p, want: &want}, {pod: p, failed: &bridge.Missing{What: []string{"secret"}}}} {
		got := plan([]api.Workload{have}, []bound{b})
		if len(got) != 1 || got[0].Hash() != have.Hash() {
			t.Errorf("another form: %+v", got)
		}
		if got[0].LimitSeconds != 60 {
			t.Error("a deadline that was set while the pod runs does not count")
		}
	}
	want.Containers[0].Limits.MemoryBytes = 1 << 20
	if got := plan([]api.Workload{have}, []bound{{pod: aPod("u1"), want: &want}}); got[0].Containers[0].Limits.MemoryBytes != 1<<20 {
		t.Error("another limit does not reach the device")
	}
}

// As by a kubelet: the other containers run on in the form that they began in.
func TestAnImageThatIsPatchedChangesItsContainerAlone(t *testing.T) {
	env := func(value string) []api.EnvVar { return []api.EnvVar{{Name: "TIER", Value: value}} }
	have, want := aWorkload("u1", "i"), aWorkload("u1", "i2")
	have.Containers = append(have.Containers, api.Container{Name: "side", Image: "s", Env: env("old")})
	have.Containers[0].Env, have.GraceSeconds = env("old"), 5
	want.Containers = append(want.Containers, api.Container{Name: "side", Image: "s", Env: env("new")})
	want.Containers[0].Env, want.Sealed = env("new"), &api.Sealed{ID: "b", Key: "k", Data: []byte("y")}
	p := aPod("u1")
	p.Spec.ActiveDeadlineSeconds = new(int64(60))
	got := plan([]api.Workload{have}, []bound{{pod: p, want: &want}})[0]
	if main, side := got.Containers[0], got.Containers[1]; main.Image != "i2" || main.Env[0].Value != "new" || side.Env[0].Value != "old" {
		t.Errorf("%+v", got.Containers)
	}
	if got.Sealed.ID != "b" || got.GraceSeconds != 5 || got.LimitSeconds != 60 {
		t.Errorf("%+v", got)
	}
	if have.Containers[0].Image != "i" {
		t.Error("the document was changed under its owner")
	}
	want.Containers = want.Containers[:1]
	if got := plan([]api.Workload{have}, []bound{{pod: aPod("u1"), want: &want}}); len(got[0].Containers) != 1 {
		t.Errorf("other containers than are wanted: %+v", got[0].Containers)
	}
}

func over(uid string, at int64) *corev1.Pod {
	p := aPod(uid)
	p.Status.Phase = corev1.PodSucceeded
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.Unix(at, 0)}}}}
	return p
}

// Draining begins nothing on any node agent, also one that has lost its memory.
func TestAPodThatHasEndedIsDrainedUntilItIsDeleted(t *testing.T) {
	w := aWorkload("u1", "i")
	w.Init = []api.Container{{Name: "first", Image: "i", Env: []api.EnvVar{{Name: "A", Value: "b"}}}}
	w.Sealed, w.Volumes = &api.Sealed{ID: "a", Key: "k", Data: []byte("x")}, []api.Volume{{Name: "v"}}
	got := plan([]api.Workload{w}, []bound{{pod: over("u1", 1)}})
	if len(got) != 1 || !got[0].Draining || got[0].Pod == nil || got[0].Containers[0].Name != "main" || got[0].Init[0].Name != "first" {
		t.Fatalf("%+v", got)
	}
	if got[0].Sealed != nil || got[0].Volumes != nil || got[0].Init[0].Env != nil {
		t.Errorf("what it held stays on the device: %+v", got[0])
	}
	if err := got[0].Validate(); err != nil {
		t.Error(err)
	}
	if left := plan(got, nil); len(left) != 0 {
		t.Errorf("the pod was deleted, and the device keeps %v", names(left))
	}
	if left := plan(nil, []bound{{pod: over("u1", 1)}}); len(left) != 0 {
		t.Errorf("a pod that ended elsewhere, or long ago, comes to the device: %v", names(left))
	}
}

func TestOfManyPodsThatHaveEndedTheLatestStay(t *testing.T) {
	var have []api.Workload
	var pods []bound
	for i := range keepEnded + 3 {
		uid := string(rune('a' + i))
		have, pods = append(have, aWorkload(uid, "i")), append(pods, bound{pod: over(uid, int64(1764000000+i*7%(keepEnded+3)))})
	}
	got := names(plan(have, pods))
	if len(got) != keepEnded {
		t.Fatalf("%d stay; wanted %d", len(got), keepEnded)
	}
	for i, b := range pods {
		early := b.pod.Status.ContainerStatuses[0].State.Terminated.FinishedAt.Unix() < 1764000000+3
		if slices.Contains(got, have[i].Name) == early {
			t.Errorf("pod %s ended at %v: stays %t", have[i].Name, finished(b.pod), !early)
		}
	}
}

func TestAPodThatIsDeletedGoesOnlyWhenItsDeviceHasStoppedIt(t *testing.T) {
	p, grace, at := aPod("u1"), int64(3), metav1.NewTime(time.Unix(1764000000, 0))
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &at, &grace
	doc := plan([]api.Workload{aWorkload("u1", "i")}, []bound{{pod: p}})
	if len(doc) != 1 || !doc[0].Draining || doc[0].GraceSeconds != 3 {
		t.Fatalf("%+v", doc)
	}
	n := &api.Node{Desired: api.Revision{Generation: 5}}
	if gone(p, doc, n) {
		t.Error("gone, and the device never said a word")
	}
	n.Reported = &api.Reported{Generation: 4, Workloads: nil}
	if gone(p, doc, n) {
		t.Error("gone by the word on an older document")
	}
	n.Reported.Generation = 5
	n.Reported.Workloads = []api.WorkloadStatus{{Name: "u1", State: api.WorkloadRunning}}
	if gone(p, doc, n) {
		t.Error("gone while it runs")
	}
	n.Reported.Workloads[0].State = api.WorkloadFailed
	if !gone(p, doc, n) {
		t.Error("ended on the device, and not gone")
	}
	n.Reported.Workloads = nil
	if !gone(p, doc, n) {
		t.Error("the device knows it no more, and it is not gone")
	}
	if !gone(p, nil, n) || len(plan(nil, []bound{{pod: p}})) != 0 {
		t.Error("a pod that never reached the document waits for its device")
	}
	if !gone(p, doc, nil) {
		t.Error("nobody is left to ask")
	}
}

func TestAWordOnAnotherFormIsNotTakenForThisOne(t *testing.T) {
	p, w := aPod("u1"), aWorkload("u1", "i")
	n := &api.Node{Reported: &api.Reported{Workloads: []api.WorkloadStatus{{Name: "u1", State: api.WorkloadRunning, Hash: w.Hash()}}}}
	if word(p, []api.Workload{w}, n) == nil {
		t.Error("no word on the form that is wanted")
	}
	if other := aWorkload("u1", "i2"); word(p, []api.Workload{other}, n) != nil {
		t.Error("the old image's status stands for the new one")
	}
}

// TestPlansSettle takes random documents and pods: a second plan changes nothing, and every pod that is to run has one workload.
func TestPlansSettle(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var have []api.Workload
		var pods []bound
		for i := range rng.IntN(8) {
			uid := string(rune('a' + i))
			if rng.IntN(2) == 0 {
				have = append(have, aWorkload(uid, "i"))
			}
			b := bound{pod: aPod(uid)}
			switch rng.IntN(4) {
			case 0:
				at := metav1.Now()
				b.pod.DeletionTimestamp = &at
			case 1:
				b.pod.Status.Phase = corev1.PodSucceeded
			case 2:
				b.failed = &bridge.Unsupported{}
			default:
				w := aWorkload(uid, "i")
				b.want = &w
			}
			pods = append(pods, b)
		}
		first := plan(have, pods)
		second := plan(first, pods)
		if !slices.EqualFunc(first, second, func(a, b api.Workload) bool { return a.Hash() == b.Hash() && a.Draining == b.Draining }) {
			t.Fatalf("%v then %v", names(first), names(second))
		}
		for _, b := range pods {
			if b.want != nil && !slices.Contains(names(first), string(b.pod.UID)) {
				t.Fatalf("pod %s is not in %v", b.pod.UID, names(first))
			}
		}
	}
}

// TestAStatusThatComesBackFromTheAPIServerIsTheSame has memory that is no multiple of 1024 bytes, which is not read back as it was written.
func TestAStatusThatComesBackFromTheAPIServerIsTheSame(t *testing.T) {
	now := time.Unix(1764000000, 0)
	device := &api.Node{ID: "n1", Presence: api.PresenceOnline, Birth: &api.Birth{Runtimes: []string{"process"},
		Host: api.Host{Arch: "amd64", CPUs: 1, MemoryBytes: 64<<20 + 7}}}
	first := bridge.FromDevice(device, bridge.Pressure{}, nil, bridge.Place{}, now).Status
	raw, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	var kept corev1.NodeStatus
	if err := json.Unmarshal(raw, &kept); err != nil {
		t.Fatal(err)
	}
	again := bridge.FromDevice(device, bridge.Pressure{}, &kept, bridge.Place{}, now.Add(time.Minute)).Status
	if !sameStatus(&kept, &again) {
		t.Errorf("a minute later nothing has happened, and %+v is written again over %+v", again, kept)
	}
	device.Presence = api.PresenceLost
	if gone := bridge.FromDevice(device, bridge.Pressure{}, &kept, bridge.Place{}, now).Status; sameStatus(&kept, &gone) {
		t.Error("a device that is lost has the same status")
	}
}

func TestANodeOfAnotherClusterOrOfNobodyIsNotOurs(t *testing.T) {
	r := &reconciler{Config: Config{Cluster: "a"}}
	for want, labels := range map[bool][]map[string]string{
		true:  {{bridge.ManagedBy: bridge.Manager, bridge.LabelCluster: "a"}, {bridge.ManagedBy: bridge.Manager}},
		false: {nil, {bridge.LabelCluster: "a"}, {bridge.ManagedBy: bridge.Manager, bridge.LabelCluster: "b"}},
	} {
		for _, l := range labels {
			if got := r.ours(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: l}}); got != want {
				t.Errorf("%v: %v", l, got)
			}
		}
	}
}

func TestANodeThatAKubeletHasTakenIsNotOurs(t *testing.T) {
	r := &reconciler{Config: Config{Cluster: "a"}}
	device := &api.Node{ID: "edge", KeySHA256: strings.Repeat("ab", 32), Birth: &api.Birth{Runtimes: []string{"process"}}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{bridge.ManagedBy: bridge.Manager}}}
	if !r.ours(node) {
		t.Error("a Node whose status is not written yet is taken for a machine's")
	}
	node.Status = bridge.FromDevice(device, bridge.Pressure{}, nil, bridge.Place{}, time.Unix(1764000000, 0)).Status
	if !r.ours(node) {
		t.Errorf("our own: %+v", node.Status.NodeInfo)
	}
	node.Status.NodeInfo.KubeletVersion = "v1.37.2+k3s1"
	node.Status.NodeInfo.MachineID = "5d1a1f0c2f1e4b0b9c3c0a7e6f2d4b81" // of /etc/machine-id, which is a machine's UUID too where it has none
	node.Status.NodeInfo.SystemUUID = node.Status.NodeInfo.MachineID
	if r.ours(node) {
		t.Error("a machine's Node is written, and deleted with the device of its name")
	}
}
