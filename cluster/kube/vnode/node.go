package vnode

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/bridge"
)

// ownLabels is the annotation that lists the labels which we gave, so that one that the device has no more goes, and one that a user
// gave stays.
const ownLabels = "mlsysops.eu/own-labels"

// errForeign is for a Node that has a device's name and is not ours, such as that of a machine that runs k3s too.
var errForeign = errors.New("a node of that name is there, and it is not a device's")

// node makes the Node what the device says. It returns the Node as it is now, or none when there is no room for one.
func (r *reconciler) node(ctx context.Context, device *api.Node) (*corev1.Node, bridge.Node, error) {
	node := &corev1.Node{}
	err := r.client.Get(ctx, types.NamespacedName{Name: device.ID}, node)
	switch {
	case apierrors.IsNotFound(err):
		if why, err := r.faults.room.admit(ctx, device.ID); err != nil || why != "" {
			return nil, bridge.Node{}, err
		}
		node, err = r.create(ctx, device)
	case err == nil && !r.ours(node):
		err = errForeign
	}
	if err != nil {
		return nil, bridge.Node{}, fmt.Errorf("node %s: %w", device.ID, err)
	}
	want := bridge.FromDevice(device, r.Devices.Pressure(device.ID), &node.Status, r.Place(device.ID, node.Status.DaemonEndpoints.KubeletEndpoint.Port), r.Now())
	if next := object(node, want); !equality.Semantic.DeepEqual(node, next) {
		if err := r.client.Patch(ctx, next, client.MergeFromWithOptions(node, client.MergeFromWithOptimisticLock{})); err != nil {
			return nil, want, fmt.Errorf("patch node %s: %w", device.ID, err)
		}
		node = next
	}
	return node, want, r.status(ctx, node, want)
}

// ours reports whether a Node is one of this cluster agent's, or of its replicas. One that says no cluster is taken over. One that a kubelet
// has registered as is a machine's since, whatever its labels say: two that write one Node, and run its pods, would never agree.
func (r *reconciler) ours(node client.Object) bool {
	if n, ok := node.(*corev1.Node); ok && bridge.Registered(&n.Status.NodeInfo) {
		return false
	}
	l := node.GetLabels()
	of, said := l[bridge.LabelCluster]
	return l[bridge.ManagedBy] == bridge.Manager && (!said || of == r.Cluster)
}

func (r *reconciler) create(ctx context.Context, device *api.Node) (*corev1.Node, error) {
	want := bridge.FromDevice(device, bridge.Pressure{}, nil, r.Place(device.ID, 0), r.Now())
	node := object(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: device.ID}}, want)
	node.Status = want.Status
	err := r.client.Create(ctx, node)
	if apierrors.IsAlreadyExists(err) { // the cache holds our own alone
		foreign := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}}
		if r.reader.Get(ctx, types.NamespacedName{Name: device.ID}, foreign) == nil && !r.ours(foreign) {
			return nil, errForeign
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	return node, nil
}

// object is node with the labels and taints that are ours as they should be, and those of others as they are.
func object(node *corev1.Node, want bridge.Node) *corev1.Node {
	next := node.DeepCopy()
	if next.Labels == nil {
		next.Labels = map[string]string{}
	}
	if next.Annotations == nil {
		next.Annotations = map[string]string{}
	}
	for _, key := range strings.Fields(next.Annotations[ownLabels]) {
		if _, still := want.Labels[key]; !still {
			delete(next.Labels, key)
		}
	}
	maps.Copy(next.Labels, want.Labels)
	next.Annotations[ownLabels] = strings.Join(slices.Sorted(maps.Keys(want.Labels)), " ")
	next.Spec.Taints = taints(next.Spec.Taints, want.Taints)
	if equality.Semantic.DeepEqual(sorted(next.Spec.Taints), sorted(node.Spec.Taints)) {
		next.Spec.Taints = node.Spec.Taints
	}
	return next
}

func sorted(in []corev1.Taint) []corev1.Taint {
	out := slices.Clone(in)
	for i := range out {
		out[i].TimeAdded = nil
	}
	slices.SortFunc(out, func(a, b corev1.Taint) int { return strings.Compare(a.Key+string(a.Effect), b.Key+string(b.Effect)) })
	return out
}

// status writes the status when it says something new, or the last word is older than the heartbeat. The list of conditions merges by
// type, so those of others stay.
func (r *reconciler) status(ctx context.Context, node *corev1.Node, want bridge.Node) error {
	next := node.DeepCopy()
	next.Status = want.Status
	next.Status.Images, next.Status.VolumesInUse, next.Status.VolumesAttached = node.Status.Images, node.Status.VolumesInUse, node.Status.VolumesAttached
	next.Status.Config, next.Status.RuntimeHandlers, next.Status.Features = node.Status.Config, node.Status.RuntimeHandlers, node.Status.Features
	next.Status.Phase = node.Status.Phase
	for name, amount := range node.Status.Capacity { // somebody else's extended resources
		if _, ours := next.Status.Capacity[name]; !ours && strings.Contains(string(name), "/") && !strings.HasPrefix(string(name), bridge.SensorPrefix) {
			next.Status.Capacity[name], next.Status.Allocatable[name] = amount, node.Status.Allocatable[name]
		}
	}
	if sameStatus(&node.Status, &next.Status) && r.Now().Sub(told(&node.Status)) < r.Heartbeat {
		return nil
	}
	if err := r.client.Status().Patch(ctx, next, client.StrategicMergeFrom(node)); err != nil {
		return fmt.Errorf("patch status of node %s: %w", node.Name, err)
	}
	return nil
}

// told is when the status was written last.
func told(s *corev1.NodeStatus) (at time.Time) {
	for _, c := range s.Conditions {
		if c.Type == bridge.ConditionConnected {
			return c.LastHeartbeatTime.Time
		}
	}
	return at
}
