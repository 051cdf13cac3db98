package vnode

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-edge/skerry/cluster/bridge"
)

// references reads ConfigMaps and Secrets past any cache, each once per reconciliation: no right to list or watch them is needed.
type references struct {
	ctx    context.Context
	reader client.Reader
	maps   map[types.NamespacedName]looked[*corev1.ConfigMap]
	secret map[types.NamespacedName]looked[*corev1.Secret]
}

// looked is what came of looking something up; nil for what is not there.
type looked[T any] struct {
	found T
	err   error
}

func newReferences(ctx context.Context, reader client.Reader) *references {
	return &references{ctx: ctx, reader: reader, maps: map[types.NamespacedName]looked[*corev1.ConfigMap]{}, secret: map[types.NamespacedName]looked[*corev1.Secret]{}}
}

func (r *references) ConfigMap(namespace, name string) (*corev1.ConfigMap, error) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	one, known := r.maps[key]
	if !known {
		m := &corev1.ConfigMap{}
		found, err := r.get(key, m)
		if !found {
			m = nil
		}
		one = looked[*corev1.ConfigMap]{m, err}
		r.maps[key] = one
	}
	return one.found, one.err
}

func (r *references) Secret(namespace, name string) (*corev1.Secret, error) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	one, known := r.secret[key]
	if !known {
		s := &corev1.Secret{}
		found, err := r.get(key, s)
		if !found {
			s = nil
		}
		one = looked[*corev1.Secret]{s, err}
		r.secret[key] = one
	}
	return one.found, one.err
}

func (r *references) get(key types.NamespacedName, into client.Object) (found bool, err error) {
	err = r.reader.Get(r.ctx, key, into)
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case apierrors.IsForbidden(err): // somebody decided so: it is no matter of the device, nor of its other pods
		return false, &bridge.Denied{Why: err.Error()}
	case err != nil:
		return false, fmt.Errorf("look up %T %s: %w", into, key, err)
	}
	return true, nil
}
