// Package crd installs the CRDs that the cluster agent needs, and brings older ones up to date. It never takes one back to
// an older form: of several cluster agents of different versions the newest one's schemas stay.
package crd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-edge/skerry/install/kube"
)

// Verdict is what to do about one CRD.
type Verdict string

// The verdicts.
const (
	Install Verdict = "install" // it is not there
	Upgrade Verdict = "upgrade" // it is older, of another build of the same revision, or nobody says of which it is
	Keep    Verdict = "keep"    // it is what this build has
	Newer   Verdict = "newer"   // a newer cluster agent installed it: not touched
)

// Installed is what is known of a CRD in the cluster.
type Installed struct {
	Exists   bool
	Revision string // of the annotation; empty: none
	Digest   string
}

// Decide compares what is installed with what this build has.
func Decide(have Installed, revision int, digest string) Verdict {
	if !have.Exists {
		return Install
	}
	there, err := strconv.Atoi(have.Revision)
	switch {
	case err != nil || there < revision: // by hand, by the framework, or by an older agent
		return Upgrade
	case there > revision:
		return Newer
	case have.Digest != digest:
		return Upgrade
	}
	return Keep
}

// Result is what was done about a CRD.
type Result struct {
	Name    string
	Verdict Verdict
	// Established is that the API server serves it. It takes a moment after an install.
	Established bool
}

// Apply installs and upgrades what has to be, as owner. The CRDs of the result are in the order of their files.
func Apply(ctx context.Context, c client.Client, owner client.FieldOwner) ([]Result, error) {
	all, err := kube.CRDs()
	if err != nil {
		return nil, err
	}
	var out []Result
	for _, file := range all {
		r, err := apply(ctx, c, file, owner)
		if err != nil {
			return out, fmt.Errorf("install %s: %w", file.File, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func apply(ctx context.Context, c client.Client, file kube.CRD, owner client.FieldOwner) (Result, error) {
	want := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(file.YAML, &want.Object); err != nil {
		return Result{}, err
	}
	sum := sha256.Sum256(file.YAML)
	digest := hex.EncodeToString(sum[:8])
	r := Result{Name: want.GetName()}
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(want.GroupVersionKind())
	err := c.Get(ctx, client.ObjectKey{Name: r.Name}, live)
	if err != nil && !apierrors.IsNotFound(err) {
		return r, err
	}
	notes := live.GetAnnotations()
	r.Verdict = Decide(Installed{Exists: err == nil, Revision: notes[kube.AnnotationRevision], Digest: notes[kube.AnnotationDigest]}, kube.Revision, digest)
	r.Established = established(live)
	if r.Verdict == Keep || r.Verdict == Newer {
		return r, nil
	}
	notes = want.GetAnnotations()
	if notes == nil {
		notes = map[string]string{}
	}
	notes[kube.AnnotationRevision], notes[kube.AnnotationDigest] = strconv.Itoa(kube.Revision), digest
	want.SetAnnotations(notes)
	unstructured.RemoveNestedField(want.Object, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(want.Object, "status")
	// By force, for whoever wrote the older schema, kubectl or the framework, must not keep a field of it.
	return r, c.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), owner, client.ForceOwnership)
}

// established reports whether the API server serves the CRD.
func established(crd *unstructured.Unstructured) bool {
	list, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
	for _, c := range list {
		if m, ok := c.(map[string]any); ok && m["type"] == "Established" {
			return m["status"] == string(metav1.ConditionTrue)
		}
	}
	return false
}
