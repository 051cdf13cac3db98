package inventory

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skerry-edge/skerry/api"
	v1 "github.com/skerry-edge/skerry/api/v1"
	"github.com/skerry-edge/skerry/cluster/kube/apply"
)

// Render makes what has to be applied so that live (nil: there is none) says what there is to say about n, and reports
// whether it does already. Fields that others have written are in it only when they are the device's to say.
func Render(n *api.Node, d Description, live *v1.MLSysOpsNode, namespace string) (want *unstructured.Unstructured, same bool, err error) {
	want = &unstructured.Unstructured{Object: runtime.DeepCopyJSON(d.Facts)}
	for _, s := range d.Seeds {
		if live != nil && theirs(live.ManagedFields, s.Path) {
			continue
		}
		if err := unstructured.SetNestedField(want.Object, runtime.DeepCopyJSONValue(s.Value), s.Path...); err != nil {
			return nil, false, fmt.Errorf("describe node %s: %w", n.ID, err)
		}
	}
	want.SetGroupVersionKind(v1.GroupVersion().WithKind("MLSysOpsNode"))
	want.SetName(n.ID)
	want.SetNamespace(namespace)
	want.SetFinalizers([]string{Finalizer})
	labels := maps.Clone(d.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[LabelCluster] = n.Cluster
	want.SetLabels(labels)
	notes := map[string]string{AnnotationEnrolment: Enrolment(n)}
	want.SetAnnotations(notes)
	raw, err := json.Marshal(want.Object) // keys are in order
	if err != nil {
		return nil, false, fmt.Errorf("describe node %s: %w", n.ID, err)
	}
	sum := sha256.Sum256(raw)
	notes[AnnotationApplied] = hex.EncodeToString(sum[:8])
	want.SetAnnotations(notes)
	if live == nil || live.Annotations[AnnotationApplied] != notes[AnnotationApplied] {
		return want, false, nil
	}
	have, err := runtime.DefaultUnstructuredConverter.ToUnstructured(live)
	if err != nil {
		return nil, false, fmt.Errorf("read object of node %s: %w", n.ID, err)
	}
	delete(have, "apiVersion")
	delete(have, "kind")
	told := maps.Clone(want.Object)
	delete(told, "apiVersion")
	delete(told, "kind")
	return want, covers(have, told), nil
}

// covers reports whether have says all that want does. Lists have to be the same, but for the finalizers, which are a set.
func covers(have, want any) bool {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			return len(w) == 0
		}
		for k, v := range w {
			if k == "finalizers" {
				if !within(h[k], v) {
					return false
				}
				continue
			}
			if _, there := h[k]; !there && !empty(v) || !covers(h[k], v) {
				return false
			}
		}
		return true
	case []any:
		h, ok := have.([]any)
		return ok && slices.EqualFunc(h, w, func(a, b any) bool { return covers(a, b) })
	}
	return have == want
}

func empty(v any) bool {
	m, ok := v.(map[string]any)
	return ok && len(m) == 0
}

func within(have, want any) bool {
	h, _ := have.([]any)
	w, _ := want.([]any)
	for _, x := range w {
		if !slices.Contains(h, x) {
			return false
		}
	}
	return true
}

// theirs reports whether somebody other than the cluster agent has written the field at path, or a part of it.
func theirs(fields []metav1.ManagedFieldsEntry, path []string) bool {
	for _, f := range fields {
		if f.Manager == apply.Owner || f.Subresource != "" || f.FieldsV1 == nil {
			continue
		}
		var owned map[string]any
		if json.Unmarshal(f.FieldsV1.GetRawBytes(), &owned) != nil {
			continue
		}
		if reaches(owned, path) {
			return true
		}
	}
	return false
}

func reaches(owned map[string]any, path []string) bool {
	next, ok := owned["f:"+path[0]].(map[string]any)
	return ok && (len(path) == 1 || reaches(next, path[1:]))
}

// Strip drops what nobody here reads of an object in the cache: of the managed fields the cluster agent's own, and those of
// the status.
func Strip(obj any) (any, error) {
	o, ok := obj.(*v1.MLSysOpsNode)
	if !ok {
		return obj, nil
	}
	o.ManagedFields = slices.DeleteFunc(o.ManagedFields, func(f metav1.ManagedFieldsEntry) bool {
		return f.Subresource != "" || f.Manager == apply.Owner
	})
	if len(o.ManagedFields) == 0 {
		o.ManagedFields = nil
	}
	return o, nil
}
