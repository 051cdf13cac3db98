package vnode

import (
	"context"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-edge/skerry/cluster/bridge"
)

func TestOfPodsThatNeverComeToDevicesOnlyTheirPlaceIsKept(t *testing.T) {
	for name, c := range map[string]struct {
		tolerations []corev1.Toleration
		whole       bool
	}{
		"none":                    {nil, false},
		"of something else":       {[]corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists}}, false},
		"of another effect":       {[]corev1.Toleration{{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}}, false},
		"of everything":           {[]corev1.Toleration{{Operator: corev1.TolerationOpExists}}, true},
		"of devices":              {[]corev1.Toleration{{Key: bridge.TaintFarEdge, Operator: corev1.TolerationOpExists}}, true},
		"of devices, by an equal": {[]corev1.Toleration{{Key: "x"}, {Key: bridge.TaintFarEdge, Effect: corev1.TaintEffectNoSchedule}}, true},
	} {
		p := referring("p", "word")
		p.ResourceVersion, p.Spec.NodeName, p.Spec.Tolerations = "7", "m", c.tolerations
		got, err := Strip(p.DeepCopy())
		if err != nil {
			t.Fatal(err)
		}
		kept := got.(*corev1.Pod)
		if c.whole != reflect.DeepEqual(kept, p) || kept.Name != p.Name || kept.UID != p.UID || kept.ResourceVersion != "7" || kept.Spec.NodeName != "m" {
			t.Errorf("%s: %+v", name, kept)
		}
		again, err := Strip(kept.DeepCopy())
		if err != nil || !reflect.DeepEqual(again, kept) {
			t.Errorf("%s, stripped twice: %+v, %v", name, again, err)
		}
	}
}

// shelf has the pods of a site whole, as the API server does.
type shelf struct{ *site }

func (s shelf) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	for _, p := range s.pods {
		if p.Name == key.Name {
			p.DeepCopyInto(into.(*corev1.Pod))
		}
	}
	return nil
}

func TestAPodThatWasPutOnADeviceByHandIsReadWhole(t *testing.T) {
	s := aSite()
	stripped, err := Strip(s.pods[0].DeepCopy())
	if err != nil {
		t.Fatal(err)
	}
	p := stripped.(*corev1.Pod)
	if err := Whole(t.Context(), shelf{s}, p); err != nil || !reflect.DeepEqual(p, s.pods[0]) {
		t.Errorf("%+v, %v", p, err)
	}
	another := stripped.(*corev1.Pod).DeepCopy()
	another.UID, another.Spec.Containers = "of before", nil
	if err := Whole(t.Context(), shelf{s}, another); !apierrors.IsNotFound(err) {
		t.Errorf("another pod of the same name: %v", err)
	}
	if err := Whole(t.Context(), nil, p); err != nil { // and not asked for when it is
		t.Error(err)
	}
}
