package vnode

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/bridge"
)

// bound is a pod of a device with what came of its translation.
type bound struct {
	pod    *corev1.Pod
	want   *api.Workload // sealed; nil when Failed
	notes  []corev1.PodCondition
	noted  bool // notes are all there are
	failed error
	renews bool // its device takes what is sealed anew without a new start
}

// keepEnded is how many pods that have ended stay in a device's document, the latest ones: their logs are there for as long.
const keepEnded = 20

// plan decides the workloads of a device's next desired document: those that did not come from pods stay as they are, and each pod
// has its own. One that has ended is drained, so that nothing of it runs again while its logs can be read, as a kubelet keeps them until
// the pod is deleted. have is the document as it is.
func plan(have []api.Workload, pods []bound) []api.Workload {
	var out []api.Workload
	for _, w := range have {
		if w.Pod == nil {
			out = append(out, w)
		}
	}
	late := latest(pods)
	for i := range pods {
		p := &pods[i]
		at := slices.IndexFunc(have, func(w api.Workload) bool { return w.Name == string(p.pod.UID) })
		switch {
		case ended(p.pod):
			if at >= 0 && late[p.pod.UID] {
				out = append(out, remains(have[at]))
			}
		case p.pod.DeletionTimestamp != nil:
			if at >= 0 { // one that never reached the document needs no end on the device
				out = append(out, draining(have[at], p.pod))
			}
		case at >= 0 && p.keeps(&have[at]):
			out = append(out, limited(have[at], p.pod))
		case at >= 0:
			out = append(out, limited(patched(have[at], p.want), p.pod))
		case p.want != nil:
			out = append(out, *p.want)
		}
	}
	slices.SortStableFunc(out, func(a, b api.Workload) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// latest are the pods that have ended last, by when the last of their containers did.
func latest(pods []bound) map[types.UID]bool {
	var over []*corev1.Pod
	for i := range pods {
		if p := pods[i].pod; ended(p) && p.DeletionTimestamp == nil {
			over = append(over, p)
		}
	}
	slices.SortStableFunc(over, func(a, b *corev1.Pod) int { return finished(b).Compare(finished(a)) })
	out := map[types.UID]bool{}
	for _, p := range over[:min(keepEnded, len(over))] {
		out[p.UID] = true
	}
	return out
}

func finished(p *corev1.Pod) time.Time {
	at := p.CreationTimestamp.Time
	for _, c := range p.Status.ContainerStatuses {
		if t := c.State.Terminated; t != nil && t.FinishedAt.After(at) {
			at = t.FinishedAt.Time
		}
	}
	return at
}

// remains is what the document has of a pod that has ended: what names its logs, and how what may still run is to be stopped.
func remains(w api.Workload) api.Workload {
	strip := func(list []api.Container) []api.Container {
		var out []api.Container
		for i := range list {
			out = append(out, api.Container{Name: list[i].Name, Image: list[i].Image, PreStop: list[i].PreStop})
		}
		return out
	}
	return api.Workload{Name: w.Name, Runtime: w.Runtime, Pod: w.Pod, Restart: w.Restart, GraceSeconds: w.GraceSeconds, Init: strip(w.Init),
		Containers: strip(w.Containers), Draining: true}
}

// limited has a deadline count that was set while the pod runs.
func limited(w api.Workload, p *corev1.Pod) api.Workload {
	if s := p.Spec.ActiveDeadlineSeconds; s != nil {
		w.LimitSeconds = *s
	}
	return w
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

// sameForm reports whether a workload need not be replaced: whether nothing differs that may change while its pod is the same and that a
// kubelet would act upon. What comes of a label or an amount of the node is settled at the first start. A device with a new key needs what is
// sealed anew, also one that begins the pod anew for it.
func sameForm(have, want *api.Workload) bool {
	if have.Sealed != nil && want.Sealed != nil && have.Sealed.Key != want.Sealed.Key {
		return false
	}
	return !have.Draining && slices.EqualFunc(have.Init, want.Init, sameContainer) && slices.EqualFunc(have.Containers, want.Containers, sameContainer)
}

// keeps reports whether what the document has of a pod stays as it is.
func (b *bound) keeps(have *api.Workload) bool {
	if b.want == nil { // what it refers to has gone since, and what runs goes on
		return true
	}
	return sameForm(have, b.want) && !(b.renews && resealed(have, b.want))
}

// resealed reports whether what a pod refers to has changed.
func resealed(have, want *api.Workload) bool {
	if have.Sealed == nil || want.Sealed == nil {
		return have.Sealed != want.Sealed
	}
	return have.Sealed.ID != want.Sealed.ID
}

func sameContainer(a, b api.Container) bool {
	return a.Name == b.Name && a.Image == b.Image && a.Limits == b.Limits
}

// patched is a workload of which no more has changed than what has to: the device begins a container that differs anew, and the others run on.
func patched(have api.Workload, want *api.Workload) api.Workload {
	sameName := func(a, b api.Container) bool { return a.Name == b.Name }
	if have.Draining || !slices.EqualFunc(have.Init, want.Init, sameName) || !slices.EqualFunc(have.Containers, want.Containers, sameName) {
		return *want
	}
	merge := func(have, want []api.Container) []api.Container {
		out := slices.Clone(have)
		for i := range out {
			if !sameContainer(out[i], want[i]) {
				out[i] = want[i]
			}
		}
		return out
	}
	have.Init, have.Containers, have.Sealed = merge(have.Init, want.Init), merge(have.Containers, want.Containers), want.Sealed
	return have
}

// gone reports whether the device holds nothing of a pod that is being deleted any more, so that the pod may go. have is the
// document. A device that has not answered the document yet may still run it.
func gone(p *corev1.Pod, have []api.Workload, n *api.Node) bool {
	at := slices.IndexFunc(have, func(w api.Workload) bool { return w.Name == string(p.UID) })
	if at < 0 {
		return true // never told, or long ended
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
