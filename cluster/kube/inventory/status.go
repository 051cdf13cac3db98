package inventory

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-edge/skerry/api"
	v1 "github.com/skerry-edge/skerry/api/v1"
	"github.com/skerry-edge/skerry/cluster/registry"
)

// ConditionConnected says whether the device is in touch: False with how it went away, Unknown while the cluster agent
// itself is out of touch.
const ConditionConnected = "Connected"

// reasons are the condition's reasons by presence.
var reasons = map[api.Presence]string{api.PresenceOnline: "Online", api.PresenceDraining: "Draining", api.PresenceSleeping: "Sleeping",
	api.PresenceOffline: "Offline", api.PresenceDisconnected: "Disconnected", api.PresenceLost: "Lost", api.PresenceEnrolled: "NeverConnected"}

// Status is what there is to report of n, given what was reported before. now dates what changes without a time of its
// own.
func Status(n *api.Node, was *v1.NodeStatus, generation int64, now time.Time) v1.NodeStatus {
	s := v1.NodeStatus{ObservedGeneration: generation, Presence: v1.Presence(n.Presence)}
	if n.LastSeen > 0 {
		s.LastSeen = &metav1.Time{Time: n.LastSeen.Time().Truncate(time.Second)}
	}
	connected := metav1.Condition{Type: ConditionConnected, Status: metav1.ConditionFalse, Reason: reasons[n.Presence], Message: n.Reason}
	switch {
	case n.Presence == api.PresenceOnline || n.Presence == api.PresenceDraining:
		connected.Status = metav1.ConditionTrue
	case n.Reason == registry.ReasonBroker:
		connected.Status, connected.Reason = metav1.ConditionUnknown, "ClusterAgentOutOfTouch"
	}
	if connected.Reason == "" {
		connected.Reason = "Unknown"
	}
	ready := metav1.Condition{Type: v1.ConditionReady, Status: connected.Status, Reason: connected.Reason, Message: n.Reason}
	switch {
	case n.Presence == api.PresenceDraining:
		ready.Status = metav1.ConditionFalse
	case connected.Status == metav1.ConditionTrue && n.Birth == nil:
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, "NotDescribed", "the device has not described itself yet"
	}
	since := now
	if n.Since > 0 {
		since = n.Since.Time()
	}
	for _, c := range []metav1.Condition{connected, ready} {
		s.Conditions = append(s.Conditions, dated(c, was.Conditions, generation, since))
	}
	return s
}

// ConditionNode says whether a device that runs workloads is a Node. Only one that there was no room for has it.
const ConditionNode = "Node"

// virtual is the condition of a device that there is no room for, or was none for.
func virtual(why string, was *v1.NodeStatus, generation int64, now time.Time) (c metav1.Condition, told bool) {
	c = metav1.Condition{Type: ConditionNode, Status: metav1.ConditionFalse, Reason: "NoRoom", Message: why}
	if why == "" {
		c.Status, c.Reason = metav1.ConditionTrue, "Room"
		told = slices.ContainsFunc(was.Conditions, func(w metav1.Condition) bool { return w.Type == ConditionNode })
	}
	return dated(c, was.Conditions, generation, now), told || why != ""
}

// Unknown is the status of an object whose node nobody knows here.
func Unknown(was *v1.NodeStatus, generation int64, now time.Time) v1.NodeStatus {
	s := v1.NodeStatus{ObservedGeneration: generation, Presence: was.Presence, LastSeen: was.LastSeen}
	for _, kind := range []string{ConditionConnected, v1.ConditionReady} {
		s.Conditions = append(s.Conditions, dated(metav1.Condition{Type: kind, Status: metav1.ConditionUnknown, Reason: "NotInRegistry",
			Message: "the cluster agent does not know this node and did not remove it; it was restored or set up anew: restore its files, or delete this object"},
			was.Conditions, generation, now))
	}
	return s
}

// dated gives c the time of its last change.
func dated(c metav1.Condition, was []metav1.Condition, generation int64, since time.Time) metav1.Condition {
	c.ObservedGeneration, c.LastTransitionTime = generation, metav1.Time{Time: since.Truncate(time.Second)}
	for _, w := range was {
		if w.Type == c.Type && w.Status == c.Status {
			c.LastTransitionTime = w.LastTransitionTime
		}
	}
	return c
}

// Differs reports whether is says anything that was does not, apart from when the node was last seen.
func Differs(is, was *v1.NodeStatus) bool {
	if is.Presence != was.Presence || is.ObservedGeneration != was.ObservedGeneration || len(is.Conditions) > len(was.Conditions) {
		return true
	}
	for _, c := range is.Conditions {
		same := false
		for _, w := range was.Conditions {
			same = same || w.Type == c.Type && w.Status == c.Status && w.Reason == c.Reason && w.Message == c.Message
		}
		if !same {
			return true
		}
	}
	return false
}
