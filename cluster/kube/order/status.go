package order

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/api/edge/v1alpha1"
)

// Status is the life of o's command as the journal has it.
func Status(o *v1alpha1.NodeCommand, rec *api.CommandRecord) v1alpha1.NodeCommandStatus {
	s := v1alpha1.NodeCommandStatus{ID: rec.ID, Phase: v1alpha1.Phase(rec.Phase), Deadline: &metav1.Time{Time: rec.Deadline.Time().Truncate(time.Second)}}
	var finished time.Time
	for _, t := range rec.History {
		s.History = append(s.History, v1alpha1.Transition{Phase: v1alpha1.Phase(t.Phase), At: metav1.NewMicroTime(t.At.Time().UTC()), Side: t.Side,
			Reason: clip(t.Reason, api.MaxReasonBytes)})
		if t.Phase == rec.Phase && (finished.IsZero() || !rec.Final) { // of a final one the first, for a late word repeats it
			finished, s.Reason = t.At.Time(), clip(t.Reason, api.MaxReasonBytes)
		}
	}
	if said := rec.Status; said != nil {
		s.Progress = clip(said.Progress, api.MaxReasonBytes)
		s.Output = clip(said.Output, api.MaxOutputBytes)
		if said.Exit != nil {
			code := int32(max(math.MinInt32, min(math.MaxInt32, *said.Exit)))
			s.ExitCode = &code
		}
		if said.Truncated > 0 {
			n := said.Truncated
			s.TruncatedBytes = &n
		}
		if raw, err := json.Marshal(said.Result); err == nil && len(said.Result) > 0 {
			s.Result = &runtime.RawExtension{Raw: raw}
		}
		if rec.Final && said.Phase.Final() && said.Phase != rec.Phase {
			s.Outcome = v1alpha1.Phase(said.Phase)
		}
	}
	if rec.Final {
		finish(&s, o, finished)
	}
	return s
}

// finish adds what a final phase has.
func finish(s *v1alpha1.NodeCommandStatus, o *v1alpha1.NodeCommand, at time.Time) {
	t := metav1.Time{Time: at.Truncate(time.Second)}
	s.Finished = &t
	reason := conditionReason(api.Phase(s.Phase))
	succeeded := metav1.ConditionFalse
	if api.Phase(s.Phase) == api.PhaseSucceeded {
		succeeded = metav1.ConditionTrue
	}
	for kind, status := range map[string]metav1.ConditionStatus{v1alpha1.ConditionFinished: metav1.ConditionTrue, v1alpha1.ConditionSucceeded: succeeded} {
		s.Conditions = append(s.Conditions, metav1.Condition{Type: kind, Status: status, Reason: reason, Message: s.Reason, LastTransitionTime: t,
			ObservedGeneration: o.Generation})
	}
	slices.SortFunc(s.Conditions, func(a, b metav1.Condition) int { return strings.Compare(a.Type, b.Type) })
}

// conditionReason is a phase as conditions spell their reasons: TimedOut of timed_out.
func conditionReason(p api.Phase) string {
	var out strings.Builder
	for word := range strings.SplitSeq(string(p), "_") {
		out.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return out.String()
}

// closed is the status of a command that ends without the journal. What was known of it stays.
func closed(o *v1alpha1.NodeCommand, phase api.Phase, reason string, now time.Time) *v1alpha1.NodeCommandStatus {
	s := *o.Status.DeepCopy()
	s.Phase, s.Reason = v1alpha1.Phase(phase), clip(reason, api.MaxReasonBytes)
	s.History = append(s.History, v1alpha1.Transition{Phase: s.Phase, At: metav1.NewMicroTime(now.UTC()), Side: "cluster", Reason: s.Reason})
	s.Conditions = nil
	if at, ok := Deadline(o); ok && s.Deadline == nil {
		s.Deadline = &metav1.Time{Time: at.Truncate(time.Second)}
	}
	finish(&s, o, now)
	return &s
}

// same compares statuses as JSON has them: times have the precision that they are written with.
func same(a, b *v1alpha1.NodeCommandStatus) bool {
	x, err1 := generic(a)
	y, err2 := generic(b)
	return err1 == nil && err2 == nil && reflect.DeepEqual(x, y)
}

func generic(s *v1alpha1.NodeCommandStatus) (out map[string]any, err error) {
	raw, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	return out, err
}

// clip fits a text into a field. The API server counts characters, which are no more than the bytes.
func clip(s string, limit int) string { return strings.ToValidUTF8(s[:min(len(s), limit)], "") }

// Strip drops what nobody here reads of an object in the cache: managed fields, and of a command that has ended what it
// printed.
func Strip(obj any) (any, error) {
	o, ok := obj.(*v1alpha1.NodeCommand)
	if !ok {
		return obj, nil
	}
	o.ManagedFields = nil
	if api.Phase(o.Status.Phase).Final() {
		o.Spec.Args, o.Status.Output, o.Status.Result, o.Status.History = nil, "", nil, nil
	}
	return o, nil
}
