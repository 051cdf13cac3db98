package bridge

import (
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-edge/skerry/api"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func device(p api.Presence) *api.Node {
	return &api.Node{ID: "edge-1", Presence: p, Reason: "r", KeySHA256: "k", Boot: "b", Labels: map[string]string{"site": "north"}, Birth: &api.Birth{
		Runtimes: []string{"process", "wasm"}, Sensors: []api.Sensor{{Kind: "camera", Model: "Pi Cam 2"}, {Kind: "camera", Model: "Pi Cam 2"}}, AutonomyMillis: 3_600_000,
		Host: api.Host{Arch: "armv7", CPUs: 2, MemoryBytes: 512 << 20, DiskBytes: 1 << 30, Kernel: "6.1"}, Version: "0.1"}}
}

func condition(list []corev1.PodCondition, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range list {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

func TestAPodsStatusIsTheDevicesWord(t *testing.T) {
	p := aPod(nil)
	running := &api.WorkloadStatus{Name: "w", State: api.WorkloadRunning, Runtime: "process", Started: api.At(noon), Ready: true,
		Containers: []api.ContainerStatus{{Name: "main", State: api.ContainerRunning, ID: "w_main_0", Ready: true, Up: true, Started: api.At(noon), Restarts: 2,
			Last: &api.Termination{Exit: 137, Signal: 9, Reason: "OOMKilled", Finished: api.At(noon)}}}}
	s := PodStatus(p, Word{Status: running, Node: device(api.PresenceOnline), Now: noon})
	c := s.ContainerStatuses[0]
	if s.Phase != corev1.PodRunning || condition(s.Conditions, corev1.PodReady).Status != corev1.ConditionTrue || c.ContainerID != "process://w_main_0" ||
		c.State.Running == nil || c.RestartCount != 2 || c.LastTerminationState.Terminated.Reason != "OOMKilled" || c.Image != "busybox:1.36" {
		t.Errorf("%+v", s)
	}
	p.Status = s
	if again := PodStatus(p, Word{Status: running, Node: device(api.PresenceOnline), Now: noon.Add(time.Hour)}); !reflect.DeepEqual(again, s) {
		t.Errorf("nothing has happened, and the status changed:\n%+v\n%+v", s, again)
	}
	away := PodStatus(p, Word{Node: device(api.PresenceDisconnected), Now: noon.Add(time.Minute)})
	if away.Phase != corev1.PodRunning || away.ContainerStatuses[0].State.Running == nil || condition(away.Conditions, ConditionConnected).Status != corev1.ConditionFalse {
		t.Errorf("a device that is away loses its pod's status: %+v", away)
	}
	if lost := PodStatus(p, Word{Node: device(api.PresenceLost), Now: noon.Add(time.Minute)}); condition(lost.Conditions, corev1.PodReady).Reason != "DeviceLost" {
		t.Errorf("%+v", lost.Conditions)
	}
}

func TestANoticeIsTakenBackWhenItsReasonIsGone(t *testing.T) {
	p, differs := aPod(nil), corev1.PodCondition{Type: ConditionNative, Status: corev1.ConditionFalse, Reason: "Differs", Message: "x"}
	of := corev1.PodCondition{Type: "example.org/gate", Status: corev1.ConditionFalse}
	p.Status.Conditions = []corev1.PodCondition{of}
	p.Status = PodStatus(p, Word{Notices: []corev1.PodCondition{differs}, Noticed: true, Node: device(api.PresenceOnline), Now: noon})
	if condition(p.Status.Conditions, ConditionNative).Message != "x" {
		t.Fatalf("%+v", p.Status.Conditions)
	}
	if s := PodStatus(p, Word{Failed: &Missing{[]string{"y"}}, Node: device(api.PresenceOnline), Now: noon}); condition(s.Conditions, ConditionNative).Message != "x" {
		t.Errorf("a pod that was not looked at loses what was told: %+v", s.Conditions)
	}
	s := PodStatus(p, Word{Noticed: true, Node: device(api.PresenceOnline), Now: noon})
	if condition(s.Conditions, ConditionNative).Type != "" || condition(s.Conditions, of.Type).Type == "" || condition(s.Conditions, ConditionConnected).Type == "" {
		t.Errorf("%+v; wanted all but the notice", s.Conditions)
	}
	if condition(p.Status.Conditions, ConditionNative).Message != "x" {
		t.Error("the pod that was given has changed")
	}
}

func TestAPodThatHasEndedStaysEnded(t *testing.T) {
	p := aPod(nil)
	p.Status = PodStatus(p, Word{Node: device(api.PresenceOnline), Now: noon, Status: &api.WorkloadStatus{Name: "w", State: api.WorkloadSucceeded,
		Containers: []api.ContainerStatus{{Name: "main", State: api.ContainerTerminated, End: &api.Termination{Reason: "Completed", Finished: api.At(noon)}}}}})
	if p.Status.Phase != corev1.PodSucceeded || condition(p.Status.Conditions, corev1.PodReady).Reason != "PodCompleted" {
		t.Fatalf("%+v", p.Status)
	}
	s := PodStatus(p, Word{Failed: &Missing{[]string{"x"}}, Node: device(api.PresenceOnline), Now: noon})
	if s.Phase != corev1.PodSucceeded || s.ContainerStatuses[0].State.Terminated == nil {
		t.Errorf("%+v", s)
	}
}

func TestWhatCannotRunWaitsAndSaysWhy(t *testing.T) {
	s := PodStatus(aPod(nil), Word{Failed: &Unsupported{[]string{"hostPID"}}, Node: device(api.PresenceOnline), Now: noon})
	w := s.ContainerStatuses[0].State.Waiting
	if s.Phase != corev1.PodPending || w == nil || w.Reason != "CreateContainerConfigError" || condition(s.Conditions, ConditionSupported).Status != corev1.ConditionFalse {
		t.Errorf("%+v", s)
	}
	full := &NoRoom{Takes: 3000, Free: 100, Whole: 65536}
	s = PodStatus(aPod(nil), Word{Failed: full, Node: device(api.PresenceOnline), Now: noon})
	w, c := s.ContainerStatuses[0].State.Waiting, condition(s.Conditions, ConditionSupported)
	if w.Reason != "CreateContainerConfigError" || w.Message != full.Error() || c.Status != corev1.ConditionFalse || c.Reason != "NoRoom" {
		t.Errorf("%+v", s)
	}
	s = PodStatus(aPod(nil), Word{Node: device(api.PresenceOnline), Now: noon})
	if s.ContainerStatuses[0].State.Waiting.Reason != "ContainerCreating" {
		t.Errorf("%+v", s)
	}
}

// A pod that is Failed is replaced by its ReplicaSet at once, and again without end.
func TestAPodThatItsDeviceRefusesWaits(t *testing.T) {
	p, refused := aPod(nil), &api.WorkloadStatus{Name: "w", State: api.WorkloadRejected, Reason: "HostPathNotAllowed", Message: "volume v: this node does not give \"/srv\""}
	s := PodStatus(p, Word{Status: refused, Node: device(api.PresenceOnline), Now: noon})
	w := s.ContainerStatuses[0].State.Waiting
	if s.Phase != corev1.PodPending || w == nil || w.Reason != "CreateContainerConfigError" || w.Message != "HostPathNotAllowed: "+refused.Message {
		t.Errorf("%+v", s)
	}
}

// What a pod refers to may go, and what is supported may change with the agent: a container that runs is not less well for it.
func TestAPodThatRunsIsToldAsItsDeviceDoesThoughItCouldNotBeBegunAnyMore(t *testing.T) {
	running := &api.WorkloadStatus{Name: "w", State: api.WorkloadRunning, Runtime: "process", Containers: []api.ContainerStatus{{Name: "main", State: api.ContainerRunning, Ready: true}}}
	for _, why := range []error{&Missing{[]string{"secret"}}, &Unsupported{[]string{"hostPID"}}} {
		s := PodStatus(aPod(nil), Word{Status: running, Failed: why, Node: device(api.PresenceOnline), Now: noon})
		if s.Phase != corev1.PodRunning || s.ContainerStatuses[0].State.Running == nil || condition(s.Conditions, corev1.PodReady).Status != corev1.ConditionTrue {
			t.Errorf("%v: %+v", why, s)
		}
		_, unsupported := why.(*Unsupported)
		if c := condition(s.Conditions, ConditionSupported); (c.Status == corev1.ConditionFalse) != unsupported || unsupported && c.Message == "" {
			t.Errorf("%v: %+v", why, c)
		}
	}
}

func TestADeviceIsANodeAndItsSilenceIsNotItsDeath(t *testing.T) {
	place := Place{Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "skerry-kubelet.skerry-system.svc.cluster.local"}}, Port: 10250}
	n := FromDevice(device(api.PresenceOnline), Pressure{Memory: corev1.ConditionFalse}, nil, place, noon)
	if n.Labels["kubernetes.io/arch"] != "arm" || n.Labels["sensor.mlsysops.eu/camera"] != "Pi-Cam-2" || n.Labels["site"] != "north" ||
		n.Labels["runtime.mlsysops.eu/wasm"] != "true" || !n.Here || n.Autonomy != time.Hour || len(n.Taints) != 1 {
		t.Errorf("%+v", n)
	}
	if n.Labels[corev1.LabelTopologyRegion] != "far-edge-edge-1" || n.Labels[corev1.LabelTopologyZone] != "" {
		t.Errorf("region and zone of %v", n.Labels)
	}
	placed := device(api.PresenceOnline)
	placed.Labels[corev1.LabelTopologyRegion] = "north"
	if got := FromDevice(placed, Pressure{}, nil, place, noon).Labels[corev1.LabelTopologyRegion]; got != "north" {
		t.Errorf("region %q; wanted the one that it was given", got)
	}
	cameras := n.Status.Capacity["sensor.mlsysops.eu/camera"]
	if cameras.Value() != 2 || n.Status.Capacity.Memory().Value() != 512<<20-512<<20/10 {
		t.Errorf("capacity %v", n.Status.Capacity)
	}
	status := func(s corev1.NodeStatus, kind corev1.NodeConditionType) corev1.ConditionStatus {
		for _, c := range s.Conditions {
			if c.Type == kind {
				return c.Status
			}
		}
		return ""
	}
	if status(n.Status, corev1.NodeReady) != corev1.ConditionTrue || status(n.Status, corev1.NodeMemoryPressure) != corev1.ConditionFalse ||
		status(n.Status, corev1.NodeDiskPressure) != corev1.ConditionUnknown {
		t.Errorf("conditions %v", n.Status.Conditions)
	}
	away := FromDevice(device(api.PresenceDisconnected), Pressure{}, &n.Status, place, noon.Add(time.Minute))
	if away.Here || len(away.Taints) != 2 || away.Taints[1].Effect != corev1.TaintEffectNoSchedule || status(away.Status, corev1.NodeReady) != corev1.ConditionUnknown ||
		status(away.Status, ConditionConnected) != corev1.ConditionFalse {
		t.Errorf("%+v", away)
	}
}

func TestEvictionWaitsForTheAutonomyOfTheDevice(t *testing.T) {
	byDefault, own := int64(300), int64(60)
	p := aPod(func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{
			{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &byDefault},
			{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &own},
			{Key: "other", Operator: corev1.TolerationOpExists}}
	})
	out, ok := Tolerations(p, time.Hour)
	if !ok || *out[0].TolerationSeconds != 3600 || *out[1].TolerationSeconds != 3600 || out[2].TolerationSeconds != nil || byDefault != 300 {
		t.Errorf("%v %v", out, ok)
	}
	p.Spec.Tolerations = out
	if _, ok := Tolerations(p, time.Hour); ok {
		t.Error("nothing has to change any more")
	}
	p.Spec.Tolerations[0].TolerationSeconds, p.Annotations = &own, map[string]string{EvictEarly: "true"}
	if _, ok := Tolerations(p, time.Hour); ok {
		t.Error("a pod that asked to be evicted early is not")
	}
}

// TestAPodThatRunsIsNotToldToWaitBetweenTwoForms has a device that has not spoken of a form yet, of a pod that runs and of which something is
// missing by now.
func TestAPodThatRunsIsNotToldToWaitBetweenTwoForms(t *testing.T) {
	p := aPod(nil)
	run := &api.WorkloadStatus{Name: "w", State: api.WorkloadRunning, Containers: []api.ContainerStatus{{Name: p.Spec.Containers[0].Name, State: api.ContainerRunning, Ready: true, Up: true}}}
	p.Status = PodStatus(p, Word{Status: run, Placed: true, Noticed: true, Node: device(api.PresenceOnline), Now: noon})
	missing := &Missing{[]string{"secret \"x\" not found"}}
	for what, w := range map[string]Word{
		"of the form before": {Failed: missing, Placed: true, Notices: []corev1.PodCondition{missing.Notice()}},
		"of this form":       {Failed: missing, Placed: true, Notices: []corev1.PodCondition{missing.Notice()}, Status: run},
	} {
		w.Node, w.Now = device(api.PresenceOnline), noon
		s := PodStatus(p, w)
		if c := s.ContainerStatuses[0]; c.State.Running == nil || !c.Ready || s.Phase != corev1.PodRunning || condition(s.Conditions, corev1.PodReady).Status != corev1.ConditionTrue {
			t.Errorf("%s: %+v, %s", what, c, s.Phase)
		}
		if c := condition(s.Conditions, ConditionNative); c.Reason != "NotRenewed" || !strings.Contains(c.Message, "secret") {
			t.Errorf("%s: nobody is told: %+v", what, c)
		}
	}
	p.Status = corev1.PodStatus{}
	if s := PodStatus(p, Word{Failed: missing, Node: device(api.PresenceOnline), Now: noon}); s.ContainerStatuses[0].State.Waiting == nil {
		t.Errorf("one that was never begun does not wait: %+v", s.ContainerStatuses)
	}
}

func TestAKubeletIsKnownByItsMachineIDOrByHavingNone(t *testing.T) {
	for what, c := range map[string]struct {
		info corev1.NodeSystemInfo
		want bool
	}{
		"nobody yet":                {corev1.NodeSystemInfo{}, false},
		"a machine":                 {corev1.NodeSystemInfo{KubeletVersion: "v1.37.2+k3s1", MachineID: "5d1a1f0c2f1e4b0b9c3c0a7e6f2d4b81"}, true},
		"a machine without its id":  {corev1.NodeSystemInfo{KubeletVersion: "v1.37.2+k3s1"}, true},
		"a device, by its key's id": {corev1.NodeSystemInfo{KubeletVersion: "v0.9.0", MachineID: strings.Repeat("ab", 32)}, false},
	} {
		if got := Registered(&c.info); got != c.want {
			t.Errorf("%s: %v; wanted %v", what, got, c.want)
		}
	}
}
