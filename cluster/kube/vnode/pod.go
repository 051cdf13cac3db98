package vnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/bridge"
)

// far is longer than any heartbeat.
const far = 24 * time.Hour

// pods makes the device's desired document what its pods want, and the pods' statuses what the device says. It returns when to look
// again at the latest.
func (r *reconciler) pods(ctx context.Context, device *api.Node, node *corev1.Node) (after time.Duration, err error) {
	var list corev1.PodList
	if err := r.client.List(ctx, &list, client.MatchingFields{ByNode: device.ID}); err != nil {
		return 0, fmt.Errorf("list pods of node %s: %w", device.ID, err)
	}
	after = far
	refs := &references{ctx: ctx, reader: r.reader}
	target := bridge.Target{Node: device.ID, Capacity: node.Status.Allocatable, HostNetworkImplied: r.HostNetworkImplied}
	bounds := make([]bound, 0, len(list.Items))
	for i := range list.Items {
		b := r.translate(&list.Items[i], device, refs, target)
		if _, missing := errors.AsType[*bridge.Missing](b.failed); missing {
			after = missingAgain
		}
		bounds = append(bounds, b)
	}
	if err := refs.failed; err != nil { // nothing is decided upon half of the truth
		return 0, err
	}
	have, err := r.document(device.ID, bounds)
	if err != nil {
		return 0, err
	}
	device, standing := r.Devices.Device(device.ID) // its word may be newer than the document now
	if standing != Here {
		return far, nil
	}
	var faults []error
	for i := range bounds {
		faults = append(faults, r.pod(ctx, device, &bounds[i], have))
	}
	return after, errors.Join(faults...)
}

func (r *reconciler) translate(pod *corev1.Pod, device *api.Node, refs bridge.References, target bridge.Target) bound {
	b := bound{pod: pod}
	if ended(pod) || pod.DeletionTimestamp != nil {
		return b
	}
	w, err := bridge.FromPod(pod, refs, target)
	if err != nil {
		b.failed = err
		return b
	}
	b.notes, b.want = w.Notices, &w.Workload
	if len(w.Secrets.Env)+len(w.Secrets.Files) == 0 {
		return b
	}
	if b.want.Sealed, err = r.Documents.Seal(device.ID, w.Name, &w.Secrets); err != nil {
		b.want, b.failed = nil, fmt.Errorf("seal the secrets: %w", err)
	}
	return b
}

// document writes the desired document where it differs, and returns its workloads.
func (r *reconciler) document(id string, bounds []bound) ([]api.Workload, error) {
	have, err := r.Documents.Workloads(id)
	if err != nil {
		return nil, fmt.Errorf("read desired of %s: %w", id, err)
	}
	want := plan(have, bounds)
	if equality.Semantic.DeepEqual(have, want) {
		return have, nil
	}
	err = r.Documents.SetWorkloads(id, func(now []api.Workload) []api.Workload {
		want = plan(now, bounds)
		return want
	})
	if err != nil {
		return nil, fmt.Errorf("set desired of %s: %w", id, err)
	}
	return want, nil
}

// pod writes what became of one pod: its end, its tolerations, its status.
func (r *reconciler) pod(ctx context.Context, device *api.Node, b *bound, have []api.Workload) error {
	pod := b.pod
	if pod.DeletionTimestamp != nil && gone(pod, have, device) {
		return r.let(ctx, pod)
	}
	if out, change := bridge.Tolerations(pod, autonomy(device)); change && pod.DeletionTimestamp == nil && !ended(pod) {
		next := pod.DeepCopy()
		next.Spec.Tolerations = out
		if err := r.client.Patch(ctx, next, client.MergeFromWithOptions(pod, client.MergeFromWithOptimisticLock{})); err != nil {
			return fmt.Errorf("patch tolerations of pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
		pod = next
	}
	status := bridge.PodStatus(pod, bridge.Word{Status: word(pod, have, device), Failed: b.failed, Notices: b.notes, Node: device, Now: r.Now()})
	if equality.Semantic.DeepEqual(status, pod.Status) {
		return nil
	}
	next := pod.DeepCopy()
	next.Status = status
	if err := r.client.Status().Patch(ctx, next, client.StrategicMergeFrom(pod)); err != nil {
		return fmt.Errorf("patch status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	for _, e := range bridge.Happened(&pod.Status, &status) {
		r.events.Eventf(pod, nil, e.Type, e.Reason, e.Action, "%s", e.Message)
	}
	return nil
}

func autonomy(n *api.Node) time.Duration {
	if n == nil || n.Birth == nil {
		return 0
	}
	return time.Duration(n.Birth.AutonomyMillis) * time.Millisecond
}

// let deletes a pod for good, as a kubelet does once its containers have ended.
func (r *reconciler) let(ctx context.Context, pod *corev1.Pod) error {
	err := r.client.Delete(ctx, pod, client.GracePeriodSeconds(0), client.Preconditions{UID: &pod.UID})
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	r.Log.Debug("pod has ended on its device and is deleted", "pod", pod.Namespace+"/"+pod.Name)
	return nil
}

// references reads ConfigMaps and Secrets past any cache, each once per reconciliation: no right to list or watch them is needed.
type references struct {
	ctx    context.Context
	reader client.Reader
	maps   map[types.NamespacedName]*corev1.ConfigMap
	secret map[types.NamespacedName]*corev1.Secret
	failed error // the first look-up that failed
}

func (r *references) ConfigMap(namespace, name string) (*corev1.ConfigMap, error) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	if m, known := r.maps[key]; known {
		return m, nil
	}
	m := &corev1.ConfigMap{}
	found, err := r.get(key, m)
	if err != nil {
		return nil, err
	}
	if !found {
		m = nil
	}
	if r.maps == nil {
		r.maps = map[types.NamespacedName]*corev1.ConfigMap{}
	}
	r.maps[key] = m
	return m, nil
}

func (r *references) Secret(namespace, name string) (*corev1.Secret, error) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	if s, known := r.secret[key]; known {
		return s, nil
	}
	s := &corev1.Secret{}
	found, err := r.get(key, s)
	if err != nil {
		return nil, err
	}
	if !found {
		s = nil
	}
	if r.secret == nil {
		r.secret = map[types.NamespacedName]*corev1.Secret{}
	}
	r.secret[key] = s
	return s, nil
}

func (r *references) get(key types.NamespacedName, into client.Object) (found bool, err error) {
	err = r.reader.Get(r.ctx, key, into)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil && r.failed == nil {
		r.failed = fmt.Errorf("look up %T %s: %w", into, key, err)
	}
	return err == nil, err
}
