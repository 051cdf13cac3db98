// Package apply writes what is the cluster agent's of an object: the whole status, and metadata of the version that was read.
package apply

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Owner is the field manager of all that the cluster agent writes.
const Owner = "skerry-cluster"

// Status applies status, whole, to the object that o is: not to a later one of its name, and to none that is new. Where o has no UID, to
// whatever has its name.
func Status(ctx context.Context, c client.Client, o client.Object, kind schema.GroupVersionKind, status any) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(status)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: map[string]any{"status": content}}
	u.SetGroupVersionKind(kind)
	u.SetName(o.GetName())
	u.SetNamespace(o.GetNamespace())
	u.SetUID(o.GetUID())
	return c.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(Owner), client.ForceOwnership)
}

// Metadata patches what change changes of the version of o that was read, and of no other.
func Metadata(ctx context.Context, c client.Client, o client.Object, change func()) error {
	before := o.DeepCopyObject().(client.Object) //nolint:forcetypeassert // a copy is of its own kind
	change()
	return c.Patch(ctx, o, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), client.FieldOwner(Owner))
}
