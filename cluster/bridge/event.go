package bridge

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// Event is something that happened to a pod, under the reasons that a kubelet gives.
type Event struct {
	Type    string // corev1.EventTypeNormal or EventTypeWarning
	Reason  string
	Action  string
	Message string
}

// Happened tells what lies between two statuses of a pod, in the order of its containers.
func Happened(was, is *corev1.PodStatus) []Event {
	var out []Event
	if is.Phase == corev1.PodFailed && was.Phase != corev1.PodFailed && is.Reason != "" {
		out = append(out, Event{corev1.EventTypeWarning, is.Reason, "Run", is.Message})
	}
	before := map[string]*corev1.ContainerStatus{}
	for _, list := range [][]corev1.ContainerStatus{was.InitContainerStatuses, was.ContainerStatuses} {
		for i := range list {
			before[list[i].Name] = &list[i]
		}
	}
	for _, list := range [][]corev1.ContainerStatus{is.InitContainerStatuses, is.ContainerStatuses} {
		for i := range list {
			b := before[list[i].Name]
			if b == nil {
				b = &corev1.ContainerStatus{}
			}
			out = append(out, toContainer(b, &list[i])...)
		}
	}
	return out
}

func toContainer(was, is *corev1.ContainerStatus) (out []Event) {
	if is.ContainerID != "" && hasRun(is, is.ContainerID) && !hasRun(was, is.ContainerID) {
		out = append(out, Event{corev1.EventTypeNormal, "Started", "Start", fmt.Sprintf("Started container %s", is.Name)})
	}
	w := is.State.Waiting
	if w == nil || w.Reason == "" || was.State.Waiting != nil && was.State.Waiting.Reason == w.Reason {
		return out
	}
	switch w.Reason {
	case "ContainerCreating", "PodInitializing":
	case "CrashLoopBackOff":
		out = append(out, Event{corev1.EventTypeWarning, "BackOff", "Restart", fmt.Sprintf("Back-off restarting failed container %s", is.Name)})
	case "ImagePullBackOff":
		out = append(out, Event{corev1.EventTypeNormal, "BackOff", "Pull", fmt.Sprintf("Back-off pulling image %q: %s", is.Image, w.Message)})
	case "ErrImagePull":
		out = append(out, Event{corev1.EventTypeWarning, "Failed", "Pull", fmt.Sprintf("Failed to pull image %q: %s", is.Image, w.Message)})
	default:
		out = append(out, Event{corev1.EventTypeWarning, "Failed", "Create", fmt.Sprintf("%s: container %s: %s", w.Reason, is.Name, w.Message)})
	}
	return out
}

// hasRun tells whether a status shows that the container of that ID was started: it has its ID before.
func hasRun(c *corev1.ContainerStatus, id string) bool {
	last := c.LastTerminationState.Terminated
	return c.ContainerID == id && (c.State.Running != nil || c.State.Terminated != nil) || last != nil && last.ContainerID == id
}
