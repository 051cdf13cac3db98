package wave

import (
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/api/edge/v1alpha1"
)

var noon = time.Unix(1_764_000_000, 0)

func object(change func(o *v1alpha1.Rollout)) *v1alpha1.Rollout {
	o := &v1alpha1.Rollout{ObjectMeta: metav1.ObjectMeta{Namespace: "mlsysops", Name: "v14", UID: "0f3c", Generation: 2},
		Spec: v1alpha1.RolloutSpec{Version: "1.4.0", Selector: &v1alpha1.RolloutSelector{}, Batch: intstr.FromInt32(2), SuccessPercent: 90, Pause: "10m", NodeTime: "1h"}}
	if change != nil {
		change(o)
	}
	return o
}

func taken(change func(o *v1alpha1.Rollout)) *v1alpha1.Rollout {
	o := object(change)
	o.Finalizers, o.Annotations = []string{Finalizer}, map[string]string{AnnotationAgent: "a"}
	return o
}

func record(state api.RolloutState) *api.Rollout {
	r := &api.Rollout{ID: "kube-0f3c", State: state, Reason: "why", Created: api.At(noon), Changed: api.At(noon.Add(time.Minute)), Batches: 3, Current: 1,
		Counts: api.RolloutCounts{Waiting: 3, Updating: 1, Succeeded: 1, Failed: 1}}
	for _, s := range []string{"waiting", "waiting", "waiting", "updating", "succeeded", "failed"} {
		r.Members = append(r.Members, api.RolloutNode{Node: s, State: s, Reason: "because"})
	}
	return r
}

func TestEveryStepLeadsOn(t *testing.T) {
	deleted := func(o *v1alpha1.Rollout) { o.DeletionTimestamp = &metav1.Time{Time: noon} }
	paused := func(o *v1alpha1.Rollout) { o.Spec.Paused = true }
	aborted := func(o *v1alpha1.Rollout) { o.Spec.Abort = true }
	seen := func(o *v1alpha1.Rollout) { o.Status.PauseSeen = true }
	over := func(o *v1alpha1.Rollout) { o.Status.Phase = "succeeded" }
	for name, c := range map[string]struct {
		object *v1alpha1.Rollout
		record *api.Rollout
		follow bool // this agent does not lead
		want   string
	}{
		"new":                                 {object(nil), nil, false, "claim"},
		"new, and another leads":              {object(nil), nil, true, ""},
		"another's":                           {func() *v1alpha1.Rollout { o := taken(nil); o.Annotations[AnnotationAgent] = "b"; return o }(), nil, false, ""},
		"claimed":                             {taken(nil), nil, false, "take"},
		"claimed, and another leads now":      {taken(nil), nil, true, "take"},
		"aborted before it began":             {object(aborted), nil, false, "status aborted"},
		"runs":                                {taken(nil), record(api.RolloutRunning), false, "status running"},
		"to be paused":                        {taken(paused), record(api.RolloutRunning), false, "pause"},
		"paused as it should be":              {taken(paused), record(api.RolloutPaused), false, "status paused"},
		"paused by itself":                    {taken(nil), record(api.RolloutPaused), false, "status paused"},
		"to go on":                            {taken(seen), record(api.RolloutPaused), false, "resume"},
		"went on, and not told yet":           {taken(seen), record(api.RolloutRunning), false, "status running"},
		"to be aborted":                       {taken(aborted), record(api.RolloutPaused), false, "abort"},
		"aborted":                             {taken(aborted), record(api.RolloutAborted), false, "status aborted"},
		"ended":                               {taken(nil), record(api.RolloutSucceeded), false, "status succeeded"},
		"ended and told":                      {taken(over), record(api.RolloutSucceeded), false, "release"},
		"ended, told and let go":              {object(over), record(api.RolloutSucceeded), false, ""},
		"ended, forgotten by the store":       {object(over), nil, false, ""},
		"deleted while it runs":               {taken(deleted), record(api.RolloutRunning), false, "abort"},
		"deleted while it is paused":          {taken(deleted), record(api.RolloutPaused), false, "abort"},
		"deleted after the end":               {taken(deleted), record(api.RolloutAborted), false, "release"},
		"deleted before it began":             {taken(deleted), nil, false, "release"},
		"deleted, and held by somebody else":  {object(deleted), nil, false, ""},
		"lost by the store, to be begun anew": {taken(func(o *v1alpha1.Rollout) { o.Status.Phase = "running" }), nil, false, "take"},
	} {
		step := Decide(View{Object: c.object, Record: c.record, Agent: "a", Leads: !c.follow, Now: noon})
		got := step.Act
		switch {
		case step.Claim:
			got = "claim"
		case step.Take:
			got = "take"
		case step.Release:
			got = "release"
		case step.Status != nil:
			got = "status " + string(step.Status.Phase)
		}
		if got != c.want {
			t.Errorf("%s: %q; wanted %q", name, got, c.want)
		}
	}
}

func TestAStatusThatIsWrittenIsNotWrittenAgain(t *testing.T) {
	o := taken(func(o *v1alpha1.Rollout) { o.Spec.Paused = true })
	for _, r := range []*api.Rollout{record(api.RolloutPaused), record(api.RolloutPaused)} {
		if step := Decide(View{Object: o, Record: r, Agent: "a", Now: noon}); step.Status != nil {
			o.Status = *step.Status
		}
	}
	o.Status = *o.Status.DeepCopy()
	if step := Decide(View{Object: o, Record: record(api.RolloutPaused), Agent: "a", Now: noon.Add(time.Hour)}); step.Status != nil {
		t.Errorf("%+v is written again as %+v", o.Status, step.Status)
	}
	first := pending(object(nil), "no release", noon)
	o = taken(nil)
	o.Status = *first
	if again := changed(o, pending(o, "no release", noon.Add(time.Hour))); again.Status != nil {
		t.Errorf("%+v is written again", again.Status)
	}
}

func TestTheStatusTellsWhatTheStoreHas(t *testing.T) {
	o := taken(nil)
	s := Status(o, record(api.RolloutFailed))
	if s.Phase != "failed" || s.Reason != "why" || s.Progress != "1/3" || s.Counts != (v1alpha1.RolloutCounts{Nodes: 6, Waiting: 3, Updating: 1, Succeeded: 1, Failed: 1}) ||
		s.ObservedGeneration != 2 || s.Finished == nil || !slices.Equal(s.Failures, []v1alpha1.RolloutFailure{{Node: "failed", Reason: "because"}}) {
		t.Errorf("%+v", s)
	}
	for kind, want := range map[string]bool{"Accepted": true, "Finished": true, "Succeeded": false} {
		if meta.IsStatusConditionTrue(s.Conditions, kind) != want || meta.FindStatusCondition(s.Conditions, kind) == nil {
			t.Errorf("%s: %+v", kind, s.Conditions)
		}
	}
	if s := Status(o, record(api.RolloutRunning)); s.Finished != nil || meta.FindStatusCondition(s.Conditions, "Finished") != nil {
		t.Errorf("%+v; wanted no end", s)
	}
	many := record(api.RolloutRunning)
	for range 100 {
		many.Members = append(many.Members, api.RolloutNode{State: api.RolloutLost, Reason: strings.Repeat("x", 5000)})
	}
	if s := Status(o, many); len(s.Failures) != maxFailures || len(s.Failures[1].Reason) > api.MaxReasonBytes {
		t.Errorf("%d failures, a reason of %d bytes", len(s.Failures), len(s.Failures[1].Reason))
	}
}

func TestAnObjectIsTheRolloutThatItDescribes(t *testing.T) {
	got, err := Spec(object(func(o *v1alpha1.Rollout) { o.Spec.Window = "22:00-04:00" }))
	if err != nil || got.Name != "v14" || got.Version != "1.4.0" || got.Selector != "=" || got.Batch != "2" || got.SuccessPercent != 90 || got.PauseSeconds != 600 ||
		got.NodeSeconds != 3600 || got.Validate() != nil {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = Spec(object(func(o *v1alpha1.Rollout) {
		o.Spec.Selector.MatchLabels, o.Spec.Batch = map[string]string{"site": "a", "rack": "1"}, intstr.FromString("10%")
	}))
	if err != nil || got.Selector != "rack=1,site=a" || got.Batch != "10%" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Spec(object(func(o *v1alpha1.Rollout) { o.Spec.Pause = "soon" })); err == nil || !strings.Contains(err.Error(), `pause "soon"`) {
		t.Errorf("%v; wanted the field named", err)
	}
}
