package vnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/bridge"
)

// far is longer than any heartbeat.
const far = 24 * time.Hour

// lookUpWithin bounds the look-ups of what the pods of a device refer to: a part of reconcileWithin.
const lookUpWithin = 10 * time.Second

// pods makes the device's desired document what its pods want, and the pods' statuses what the device says. It returns when to look
// again at the latest.
func (r *reconciler) pods(ctx context.Context, device *api.Node, node *corev1.Node) (after time.Duration, err error) {
	var list corev1.PodList
	if err := r.client.List(ctx, &list, client.MatchingFields{ByNode: device.ID}); err != nil {
		return 0, fmt.Errorf("list pods of node %s: %w", device.ID, err)
	}
	after = far
	looking, enough := context.WithTimeout(ctx, lookUpWithin) // what is told afterwards needs time as well
	defer enough()
	refs := newReferences(looking, r.reader)
	target := bridge.Target{Node: device.ID, Capacity: node.Status.Allocatable, HostNetworkImplied: r.HostNetworkImplied}
	bounds := make([]bound, 0, len(list.Items))
	var faults []error
	for i := range list.Items {
		if err := Whole(ctx, r.reader, &list.Items[i]); apierrors.IsNotFound(err) {
			continue // the cache hears of it soon
		} else if err != nil {
			return 0, fmt.Errorf("read pod %s/%s: %w", list.Items[i].Namespace, list.Items[i].Name, err)
		}
		b, err := r.translate(&list.Items[i], device, refs, target)
		if _, missing := errors.AsType[*bridge.Missing](b.failed); missing {
			after = missingAgain
		}
		bounds, faults = append(bounds, b), append(faults, err)
	}
	if refs.asked() && device.Birth != nil && device.Birth.Renews {
		after = min(after, renewAfter(node))
	}
	have, bounds, err := r.document(device.ID, bounds)
	if faults = append(faults, err); bounds == nil {
		return 0, errors.Join(faults...)
	}
	device, standing := r.Devices.Device(device.ID) // its word may be newer than the document now
	if standing != Here {
		return far, nil
	}
	for i := range bounds {
		faults = append(faults, r.pod(ctx, device, &bounds[i], have))
	}
	return after, errors.Join(faults...)
}

// translate makes a pod a workload. An error is none of the pod's and passes: until then the pod stays as it is.
func (r *reconciler) translate(pod *corev1.Pod, device *api.Node, refs bridge.References, target bridge.Target) (bound, error) {
	b := bound{pod: pod, renews: device.Birth != nil && device.Birth.Renews}
	if ended(pod) || pod.DeletionTimestamp != nil {
		return b, nil
	}
	w, err := bridge.FromPod(pod, refs, target)
	switch err.(type) {
	case nil:
	case *bridge.Unsupported, *bridge.Missing:
		b.failed = err
		return b, nil
	default:
		return b, fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	b.notes, b.noted, b.want = w.Notices, true, &w.Workload
	if len(w.Secrets.Env)+len(w.Secrets.Files) == 0 {
		return b, nil
	}
	if b.want.Sealed, err = r.Documents.Seal(device.ID, w.Name, &w.Secrets); err != nil {
		b.want, b.failed = nil, fmt.Errorf("seal the secrets: %w", err)
	}
	return b, nil
}

// document writes the desired document where it differs, and returns its workloads, and the pods without what it has no room for. With
// an error these are the ones of before, so that what runs is still told of; none, when they could not be read.
func (r *reconciler) document(id string, bounds []bound) (have []api.Workload, fitting []bound, err error) {
	have, room, err := r.Documents.Workloads(id)
	if err != nil {
		return nil, nil, fmt.Errorf("read desired of %s: %w", id, err)
	}
	fitting = fit(have, bounds, room)
	want := plan(have, fitting)
	if equality.Semantic.DeepEqual(have, want) {
		return have, fitting, nil
	}
	err = r.Documents.SetWorkloads(id, func(now []api.Workload, room int) []api.Workload {
		fitting = fit(now, bounds, room)
		want = plan(now, fitting)
		return want
	})
	if err != nil {
		return have, fitting, fmt.Errorf("set desired of %s: %w", id, err)
	}
	return want, fitting, nil
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
	told := bridge.Word{Status: word(pod, have, device), Failed: b.failed, Notices: b.notes, Noticed: b.noted, Node: device, Now: r.Now(),
		Placed: slices.ContainsFunc(have, func(w api.Workload) bool { return w.Name == string(pod.UID) })}
	if missing, is := errors.AsType[*bridge.Missing](b.failed); is && told.Placed {
		told.Notices = append(told.Notices, missing.Notice())
	}
	status := bridge.PodStatus(pod, told)
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
