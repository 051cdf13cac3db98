package vnode

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/bridge"
)

// bound is a pod of a device with what came of its translation.
type bound struct {
	pod    *corev1.Pod
	want   *api.Workload // sealed; nil when Failed
	notes  []corev1.PodCondition
	failed error
}

// plan decides the workloads of a device's next desired document: those that did not come from pods stay as they are, and each pod
// that has not ended has its own. have is the document as it is.
func plan(have []api.Workload, pods []bound) []api.Workload {
	var out []api.Workload
	for _, w := range have {
		if w.Pod == nil {
			out = append(out, w)
		}
	}
	for i := range pods {
		p := &pods[i]
		at := slices.IndexFunc(have, func(w api.Workload) bool { return w.Name == string(p.pod.UID) })
		if ended(p.pod) {
			continue
		}
		switch {
		case p.pod.DeletionTimestamp != nil:
			if at >= 0 { // one that never reached the document needs no end on the device
				out = append(out, draining(have[at], p.pod))
			}
		case p.want == nil:
			if at >= 0 { // what it refers to has gone since: what runs goes on
				out = append(out, have[at])
			}
		case at >= 0 && sameForm(&have[at], p.want):
			out = append(out, have[at])
		default:
			out = append(out, *p.want)
		}
	}
	slices.SortStableFunc(out, func(a, b api.Workload) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func draining(w api.Workload, p *corev1.Pod) api.Workload {
	w.Draining = true
	if g := p.DeletionGracePeriodSeconds; g != nil {
		w.GraceSeconds = max(*g, 0)
	}
	return w
}

// sameForm reports whether a workload need not be replaced. A changed ConfigMap or Secret does not restart a pod, so what is sealed does
// not count; only a device with a new key needs it anew.
func sameForm(have, want *api.Workload) bool {
	a, b := *have, *want
	if (a.Sealed == nil) != (b.Sealed == nil) || a.Sealed != nil && a.Sealed.Key != b.Sealed.Key {
		return false
	}
	a.Sealed, b.Sealed = nil, nil
	return a.Hash() == b.Hash()
}

// gone reports whether the device holds nothing of a pod that is being deleted any more, so that the pod may go. have is the
// document. A device that has not answered the document yet may still run it.
func gone(p *corev1.Pod, have []api.Workload, n *api.Node) bool {
	at := slices.IndexFunc(have, func(w api.Workload) bool { return w.Name == string(p.UID) })
	if at < 0 {
		return true // never told, or ended
	}
	if n == nil {
		return true // the device was removed: nobody is left to ask
	}
	if n.Reported == nil || n.Reported.Generation < n.Desired.Generation || !have[at].Draining {
		return false
	}
	s := statusOf(n, string(p.UID))
	return s == nil || s.State == api.WorkloadSucceeded || s.State == api.WorkloadFailed || s.State == api.WorkloadRejected
}

// statusOf is the device's word on a workload.
func statusOf(n *api.Node, name string) *api.WorkloadStatus {
	if n == nil || n.Reported == nil {
		return nil
	}
	for i := range n.Reported.Workloads {
		if n.Reported.Workloads[i].Name == name {
			return &n.Reported.Workloads[i]
		}
	}
	return nil
}

// word is the status that counts for a pod: that of the form that is wanted, or of any once the pod is on its way out.
func word(p *corev1.Pod, have []api.Workload, n *api.Node) *api.WorkloadStatus {
	s := statusOf(n, string(p.UID))
	if s == nil || s.Hash == "" || p.DeletionTimestamp != nil {
		return s
	}
	for i := range have {
		if have[i].Name == s.Name && have[i].Hash() == s.Hash {
			return s
		}
	}
	return nil
}

// taints are those that a Node has of others, and ours.
func taints(have, ours []corev1.Taint) []corev1.Taint {
	out := slices.DeleteFunc(slices.Clone(have), func(t corev1.Taint) bool {
		return t.Key == bridge.TaintFarEdge || t.Key == bridge.TaintDisconnected || t.Key == bridge.TaintDraining
	})
	return append(out, ours...)
}

// sameStatus reports whether two statuses of a node differ in nothing but heartbeats. An amount is the same whatever it is written as: what
// the API server gives back was parsed, and 60397978 bytes are no binary amount then.
func sameStatus(a, b *corev1.NodeStatus) bool {
	strip := func(s *corev1.NodeStatus) *corev1.NodeStatus {
		s = s.DeepCopy()
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime.Reset()
		}
		return s
	}
	return equality.Semantic.DeepEqual(strip(a), strip(b))
}
