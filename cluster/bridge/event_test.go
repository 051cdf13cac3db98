package bridge

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestWhatHappenedToAPodIsToldOnceUnderAKubeletsReasons(t *testing.T) {
	one := func(c corev1.ContainerStatus) *corev1.PodStatus {
		c.Name, c.Image = "main", "app:1"
		return &corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{c}}
	}
	waiting := func(reason, id string) *corev1.PodStatus {
		return one(corev1.ContainerStatus{ContainerID: id, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "why"}}})
	}
	running := func(id string) *corev1.PodStatus {
		return one(corev1.ContainerStatus{ContainerID: id, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
	}
	after := func(s *corev1.PodStatus, last string) *corev1.PodStatus {
		s.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ContainerID: last}
		return s
	}
	failed := running("a")
	failed.Phase, failed.Reason, failed.Message = corev1.PodFailed, "OutOfmemory", "too small"
	for name, c := range map[string]struct {
		was, is *corev1.PodStatus
		want    []string
	}{
		"nothing":           {running("a"), running("a"), nil},
		"created":           {&corev1.PodStatus{}, waiting("ContainerCreating", ""), nil},
		"first start":       {waiting("ContainerCreating", ""), running("a"), []string{"Normal Started Started container main"}},
		"slow start":        {waiting("ContainerCreating", "a"), running("a"), []string{"Normal Started Started container main"}},
		"slow second start": {after(waiting("ContainerCreating", "b"), "a"), after(running("b"), "a"), []string{"Normal Started Started container main"}},
		"short life":        {waiting("ContainerCreating", "a"), after(waiting("CrashLoopBackOff", "a"), "a"), []string{"Normal Started Started container main", "Warning BackOff Back-off restarting failed container main"}},
		"not begun again":   {after(waiting("CrashLoopBackOff", "a"), "a"), one(corev1.ContainerStatus{ContainerID: "a", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}), nil},
		"unseen crash":      {running("a"), running("b"), []string{"Normal Started Started container main"}},
		"crash":             {running("b"), after(waiting("CrashLoopBackOff", "b"), "b"), []string{"Warning BackOff Back-off restarting failed container main"}},
		"no image":          {waiting("ContainerCreating", ""), waiting("ErrImagePull", ""), []string{`Warning Failed Failed to pull image "app:1": why`}},
		"still no image":    {waiting("ErrImagePull", ""), waiting("ImagePullBackOff", ""), []string{`Normal BackOff Back-off pulling image "app:1": why`}},
		"backs off as ever": {waiting("ImagePullBackOff", ""), waiting("ImagePullBackOff", ""), nil},
		"no secret":         {&corev1.PodStatus{}, waiting("CreateContainerConfigError", ""), []string{"Warning Failed CreateContainerConfigError: container main: why"}},
		"refused":           {running("a"), failed, []string{"Warning OutOfmemory too small"}},
	} {
		var got []string
		for _, e := range Happened(c.was, c.is) {
			got = append(got, e.Type+" "+e.Reason+" "+e.Message)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q; wanted %q", name, got, c.want)
		}
	}
}
