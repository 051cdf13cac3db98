package vnode

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-edge/skerry/cluster/bridge"
)

// Strip is what the cache keeps of a pod: all of one that the scheduler may put on a device, and of any other only where it is. Nearly all pods of
// a cluster are others.
func Strip(o any) (any, error) {
	o, err := cache.TransformStripManagedFields()(o)
	p, ok := o.(*corev1.Pod)
	if err != nil || !ok || slices.ContainsFunc(p.Spec.Tolerations, tolerates) {
		return o, err
	}
	return &corev1.Pod{TypeMeta: p.TypeMeta, Spec: corev1.PodSpec{NodeName: p.Spec.NodeName},
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion}}, nil
}

// tolerates reports whether a pod that has t may come to devices.
func tolerates(t corev1.Toleration) bool {
	return (t.Key == "" || t.Key == bridge.TaintFarEdge) && (t.Effect == "" || t.Effect == corev1.TaintEffectNoSchedule)
}

// Whole makes a pod out of the cache whole. It asks the API server only for one that somebody put on a device past the scheduler (nodeName)
// without the toleration. The error is NotFound when it is no more.
func Whole(ctx context.Context, reader client.Reader, p *corev1.Pod) error {
	if len(p.Spec.Containers) > 0 {
		return nil
	}
	uid := p.UID
	err := reader.Get(ctx, client.ObjectKeyFromObject(p), p)
	if err == nil && p.UID != uid { // another of the same name, which may be anywhere
		err = apierrors.NewNotFound(corev1.Resource("pods"), p.Name)
	}
	return err
}
