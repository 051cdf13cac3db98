package bridge

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-edge/skerry/api"
)

// Word is what is known of a pod on its device.
type Word struct {
	Status  *api.WorkloadStatus // nil: the device has not spoken of this form of the workload
	Failed  error               // of FromPod; nil when it went
	Placed  bool                // the device's document has the pod, in whatever form: what runs goes on though it failed
	Notices []corev1.PodCondition
	Noticed bool      // Notices are all there are: any other that the pod has is taken back. Else nobody has looked, and those stay
	Node    *api.Node // the device
	Now     time.Time
}

// PodStatus is the status of a pod. It starts from what the pod has, so that nothing is forgotten while a device is away, and
// does not change when nothing has happened: a status that is equal need not be written.
func PodStatus(pod *corev1.Pod, w Word) corev1.PodStatus {
	out := *pod.Status.DeepCopy()
	out.QOSClass = "" // the API server's
	if pod.Status.QOSClass != "" {
		out.QOSClass = pod.Status.QOSClass
	}
	out.ObservedGeneration = pod.Generation
	now := metav1.NewTime(w.Now.Truncate(time.Second))
	if out.Phase == "" {
		out.Phase = corev1.PodPending
	}
	switch {
	case out.Phase == corev1.PodSucceeded, out.Phase == corev1.PodFailed: // for good
	case w.Status != nil && w.Status.State == api.WorkloadRejected: // the device would take it if its configuration said so
		out.Phase = corev1.PodPending
		waiting(pod, &out, corev1.ContainerStateWaiting{Reason: configError, Message: w.Status.Reason + ": " + w.Status.Message})
	case w.Status != nil: // also when it could not be begun any more as it is now: what runs goes on
		reported(pod, &out, w.Status)
	case w.Failed != nil && !w.Placed:
		waiting(pod, &out, corev1.ContainerStateWaiting{Reason: configError, Message: w.Failed.Error()})
	case len(out.ContainerStatuses) == 0:
		waiting(pod, &out, corev1.ContainerStateWaiting{Reason: "ContainerCreating"})
	}
	conditions(pod, &out, w, now)
	return out
}

// configError is a kubelet's reason for a container that cannot be begun as it is.
const configError = "CreateContainerConfigError"

// waiting has every container wait for the same reason. What has run before stays told.
func waiting(pod *corev1.Pod, out *corev1.PodStatus, why corev1.ContainerStateWaiting) {
	fill := func(specs []corev1.Container, have []corev1.ContainerStatus) []corev1.ContainerStatus {
		var list []corev1.ContainerStatus
		for i := range specs {
			s := corev1.ContainerStatus{Name: specs[i].Name, Image: specs[i].Image}
			if at := slices.IndexFunc(have, func(c corev1.ContainerStatus) bool { return c.Name == specs[i].Name }); at >= 0 {
				s = have[at]
			}
			s.State, s.Ready, s.Started = corev1.ContainerState{Waiting: why.DeepCopy()}, false, new(bool)
			list = append(list, s)
		}
		return list
	}
	out.InitContainerStatuses = fill(pod.Spec.InitContainers, out.InitContainerStatuses)
	out.ContainerStatuses = fill(pod.Spec.Containers, out.ContainerStatuses)
}

func reported(pod *corev1.Pod, out *corev1.PodStatus, s *api.WorkloadStatus) {
	switch s.State {
	case api.WorkloadRunning:
		out.Phase = corev1.PodRunning
	case api.WorkloadSucceeded:
		out.Phase = corev1.PodSucceeded
	case api.WorkloadFailed:
		out.Phase = corev1.PodFailed
	default:
		out.Phase = corev1.PodPending
	}
	out.Reason, out.Message = "", s.Message
	if s.State == api.WorkloadFailed {
		out.Reason = s.Reason
	}
	if s.Started != 0 {
		at := metav1.NewTime(s.Started.Time())
		out.StartTime = &at
	}
	images := map[string]string{}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		images[c.Name] = c.Image
	}
	out.InitContainerStatuses, out.ContainerStatuses = nil, nil
	for i := range s.Containers {
		c := &s.Containers[i]
		one := container(c, images[c.Name], s.Runtime)
		if c.Init {
			out.InitContainerStatuses = append(out.InitContainerStatuses, one)
		} else {
			out.ContainerStatuses = append(out.ContainerStatuses, one)
		}
	}
}

func container(c *api.ContainerStatus, image, runtime string) corev1.ContainerStatus {
	up := c.Up
	out := corev1.ContainerStatus{Name: c.Name, Ready: c.Ready, RestartCount: c.Restarts, Image: image, ImageID: c.ImageDigest,
		Started: &up, ContainerID: containerID(runtime, c.ID)}
	switch c.State {
	case api.ContainerRunning:
		out.State.Running = &corev1.ContainerStateRunning{StartedAt: instant(c.Started)}
	case api.ContainerTerminated:
		out.State.Terminated = terminated(c.End, runtime)
	default:
		out.State.Waiting = &corev1.ContainerStateWaiting{Reason: c.Reason, Message: c.Message}
	}
	if c.Last != nil {
		out.LastTerminationState.Terminated = terminated(c.Last, runtime)
	}
	return out
}

func terminated(t *api.Termination, runtime string) *corev1.ContainerStateTerminated {
	if t == nil {
		return &corev1.ContainerStateTerminated{Reason: "ContainerStatusUnknown", ExitCode: 137}
	}
	return &corev1.ContainerStateTerminated{ExitCode: int32(t.Exit), Signal: int32(t.Signal), Reason: t.Reason, Message: t.Message,
		StartedAt: instant(t.Started), FinishedAt: instant(t.Finished), ContainerID: containerID(runtime, t.ID)}
}

func containerID(runtime, id string) string {
	if id == "" {
		return ""
	}
	return runtime + "://" + id
}

func instant(m api.Millis) metav1.Time {
	if m == 0 {
		return metav1.Time{}
	}
	return metav1.NewTime(m.Time().Truncate(time.Second))
}

// conditions sets those of the pod; the time of a transition is kept while its status is.
func conditions(pod *corev1.Pod, out *corev1.PodStatus, w Word, now metav1.Time) {
	connected, reason, message := Connected(w.Node)
	set := func(kind corev1.PodConditionType, ok bool, reason, message string) {
		status := corev1.ConditionFalse
		if ok {
			status = corev1.ConditionTrue
		}
		setCondition(out, corev1.PodCondition{Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: pod.Generation}, now)
	}
	set(ConditionConnected, connected, reason, message)
	switch w.Failed.(type) {
	case *Unsupported:
		set(ConditionSupported, false, "Unsupported", w.Failed.Error())
	case *NoRoom:
		set(ConditionSupported, false, "NoRoom", w.Failed.Error())
	default:
		set(ConditionSupported, true, "", "")
	}
	if w.Noticed {
		out.Conditions = slices.DeleteFunc(out.Conditions, func(have corev1.PodCondition) bool {
			return slices.Contains(notices, have.Type) && !slices.ContainsFunc(w.Notices, func(n corev1.PodCondition) bool { return n.Type == have.Type })
		})
	}
	for _, n := range w.Notices {
		set(n.Type, n.Status == corev1.ConditionTrue, n.Reason, n.Message)
	}
	done := out.Phase == corev1.PodSucceeded || out.Phase == corev1.PodFailed
	completed := ""
	if done {
		completed = "PodCompleted"
	}
	initialized, unready := progress(pod, out)
	set(corev1.PodInitialized, initialized || out.Phase == corev1.PodSucceeded, completed, "")
	ready, why, text := len(unready) == 0 && out.Phase == corev1.PodRunning, completed, ""
	switch {
	case len(unready) > 0 && !done:
		why, text = "ContainersNotReady", fmt.Sprintf("containers with unready status: %v", unready)
	case !connected && !done:
		ready, why, text = false, "Device"+reason, "the device is not there: what its containers do now is not known"
	}
	set(corev1.ContainersReady, ready, why, text)
	set(corev1.PodReady, ready && gates(pod, out), why, text)
	set(corev1.PodReadyToStartContainers, out.Phase == corev1.PodRunning || done, "", "")
}

// progress reports whether the init containers are through, and which containers are not ready.
func progress(pod *corev1.Pod, out *corev1.PodStatus) (initialized bool, unready []string) {
	initialized = len(pod.Spec.InitContainers) == 0
	if !initialized && len(out.InitContainerStatuses) == len(pod.Spec.InitContainers) {
		initialized = !slices.ContainsFunc(out.InitContainerStatuses, func(c corev1.ContainerStatus) bool {
			return c.State.Terminated == nil || c.State.Terminated.ExitCode != 0
		})
	}
	for _, c := range pod.Spec.Containers {
		if !slices.ContainsFunc(out.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == c.Name && s.Ready }) {
			unready = append(unready, c.Name)
		}
	}
	return initialized, unready
}

// gates reports whether all readiness gates of the pod are open.
func gates(pod *corev1.Pod, out *corev1.PodStatus) bool {
	for _, g := range pod.Spec.ReadinessGates {
		if !slices.ContainsFunc(out.Conditions, func(c corev1.PodCondition) bool { return c.Type == g.ConditionType && c.Status == corev1.ConditionTrue }) {
			return false
		}
	}
	return true
}

func setCondition(out *corev1.PodStatus, c corev1.PodCondition, now metav1.Time) {
	c.LastTransitionTime = now
	at := slices.IndexFunc(out.Conditions, func(have corev1.PodCondition) bool { return have.Type == c.Type })
	if at < 0 {
		out.Conditions = append(out.Conditions, c)
		return
	}
	if have := out.Conditions[at]; have.Status == c.Status {
		c.LastTransitionTime, c.LastProbeTime = have.LastTransitionTime, have.LastProbeTime
	}
	out.Conditions[at] = c
}
