package vnode

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

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

// asked reports whether anything was looked up.
func (r *references) asked() bool { return len(r.maps)+len(r.secret) > 0 }

// renewAfter is when to look up again what the pods of a node refer to. In a larger cluster that is later, by what kube-controller-manager
// tells kubelets for this: seconds, by the number of nodes.
func renewAfter(node *corev1.Node) time.Duration {
	seconds, err := strconv.ParseUint(node.Annotations[corev1.ObjectTTLAnnotationKey], 10, 16)
	if err != nil {
		seconds = 0
	}
	return renewAgain + time.Duration(seconds)*time.Second + rand.N(renewAgain/2)
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
