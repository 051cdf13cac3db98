package wave

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/api/edge/v1alpha1"
)

// What marks an object as taken.
const (
	// Finalizer has the deletion of a rollout that is not over abort it first.
	Finalizer = "edge.mlsysops.eu/abort"
	// AnnotationAgent is the cluster agent whose store has the rollout, and which alone drives it.
	AnnotationAgent = "edge.mlsysops.eu/agent"
)

// ID is that of o's rollout in the store: an object is one rollout however often it is looked at.
func ID(o *v1alpha1.Rollout) string { return "kube-" + string(o.UID) }

// View is what is known of one rollout, here and in Kubernetes.
type View struct {
	Object *v1alpha1.Rollout
	Record *api.Rollout // of the store, with the object's ID; nil: there is none
	Agent  string       // this cluster agent
	Leads  bool         // it is the one that takes what nobody has
	Now    time.Time
}

// Step is what is to be done next: the first of its parts that is set.
type Step struct {
	Claim   bool                    // note in the object that this agent takes it
	Take    bool                    // begin it
	Act     string                  // pause, resume or abort it
	Release bool                    // take the finalizer off
	Status  *v1alpha1.RolloutStatus // write this
}

// Decide is pure, and safe to repeat.
func Decide(v View) Step {
	o, r := v.Object, v.Record
	if taker := o.Annotations[AnnotationAgent]; taker != v.Agent && (taker != "" || !v.Leads) {
		return Step{}
	}
	held := slices.Contains(o.Finalizers, Finalizer)
	open := r != nil && !r.State.Final()
	switch {
	case o.DeletionTimestamp != nil && !held:
		return Step{}
	case o.DeletionTimestamp != nil && open:
		return Step{Act: "abort"}
	case o.DeletionTimestamp != nil:
		return Step{Release: true}
	case api.RolloutState(o.Status.Phase).Final():
		return Step{Release: held}
	case r == nil && o.Spec.Abort:
		return Step{Status: closed(o, v.Now)}
	case r == nil && (!held || o.Annotations[AnnotationAgent] == ""):
		return Step{Claim: true}
	case r == nil:
		return Step{Take: true}
	case open && o.Spec.Abort:
		return Step{Act: "abort"}
	case o.Spec.Paused && r.State == api.RolloutRunning:
		return Step{Act: "pause"}
	case !o.Spec.Paused && o.Status.PauseSeen && r.State == api.RolloutPaused:
		return Step{Act: "resume"}
	}
	return changed(o, Status(o, r))
}

// changed writes s unless it says what is there already.
func changed(o *v1alpha1.Rollout, s *v1alpha1.RolloutStatus) Step {
	if equality.Semantic.DeepEqual(s, &o.Status) {
		return Step{}
	}
	return Step{Status: s}
}

// Spec is the rollout that o asks for.
func Spec(o *v1alpha1.Rollout) (api.RolloutSpec, error) {
	s := api.RolloutSpec{Name: o.Name, Version: o.Spec.Version, URL: o.Spec.URL, Force: o.Spec.Force, Nodes: o.Spec.Nodes, Batch: o.Spec.Batch.String(),
		SuccessPercent: int(o.Spec.SuccessPercent), Window: o.Spec.Window}
	if sel := o.Spec.Selector; sel != nil {
		s.Selector = selector(sel.MatchLabels)
	}
	for _, d := range []struct {
		name, text string
		to         *int64
	}{{"pause", o.Spec.Pause, &s.PauseSeconds}, {"nodeTime", o.Spec.NodeTime, &s.NodeSeconds}} {
		if d.text == "" {
			continue
		}
		v, err := time.ParseDuration(d.text)
		if err != nil || v < 0 {
			return s, fmt.Errorf("%s %q; wanted a duration such as 10m", d.name, d.text)
		}
		*d.to = int64(v / time.Second)
	}
	return s, nil
}

// selector writes labels as REST and the command line have them; none is every node.
func selector(labels map[string]string) string {
	var parts []string
	for k, v := range labels {
		parts = append(parts, k+"="+v)
	}
	if len(parts) == 0 {
		return "="
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// maxFailures is how many nodes that failed are named.
const maxFailures = 16

// Status is how the rollout of o stands, as the store has it.
func Status(o *v1alpha1.Rollout, r *api.Rollout) *v1alpha1.RolloutStatus {
	c := r.Counts
	s := &v1alpha1.RolloutStatus{ID: r.ID, Phase: v1alpha1.RolloutPhase(r.State), Reason: clip(r.Reason), Progress: fmt.Sprintf("%d/%d", r.Current, r.Batches),
		Counts: v1alpha1.RolloutCounts{Nodes: int32(len(r.Members)), Waiting: int32(c.Waiting), Updating: int32(c.Updating), //nolint:gosec // fewer than two billion
			Succeeded: int32(c.Succeeded), Failed: int32(c.Failed), Skipped: int32(c.Skipped)}, //nolint:gosec // likewise
		PauseSeen: o.Spec.Paused && r.State == api.RolloutPaused, ObservedGeneration: o.Generation, Started: second(r.Created.Time())}
	for _, m := range r.Members {
		if m.State == api.RolloutLost && len(s.Failures) < maxFailures {
			s.Failures = append(s.Failures, v1alpha1.RolloutFailure{Node: m.Node, Reason: clip(m.Reason)})
		}
	}
	set := conditions(o, s)
	set(v1alpha1.ConditionAccepted, true, "Taken", "", r.Created.Time())
	if r.State.Final() {
		s.Finished = second(r.Changed.Time())
		set.end(r.State, s.Reason, r.Changed.Time())
	}
	return s
}

// pending is of one that cannot be taken yet.
func pending(o *v1alpha1.Rollout, reason string, now time.Time) *v1alpha1.RolloutStatus {
	s := &v1alpha1.RolloutStatus{Phase: v1alpha1.RolloutPending, Reason: clip(reason), ObservedGeneration: o.Generation}
	conditions(o, s)(v1alpha1.ConditionAccepted, false, "Refused", s.Reason, now)
	return s
}

// closed is of one that was aborted before anybody took it.
func closed(o *v1alpha1.Rollout, now time.Time) *v1alpha1.RolloutStatus {
	s := &v1alpha1.RolloutStatus{Phase: v1alpha1.RolloutPhase(api.RolloutAborted), Reason: "before it had begun", ObservedGeneration: o.Generation, Finished: second(now)}
	conditions(o, s).end(api.RolloutAborted, s.Reason, now)
	return s
}

// setter sets a condition.
type setter func(kind string, is bool, reason, message string, since time.Time)

// conditions returns what sets those of s. One that stays as it was in o keeps its time.
func conditions(o *v1alpha1.Rollout, s *v1alpha1.RolloutStatus) setter {
	return func(kind string, is bool, reason, message string, since time.Time) {
		c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message, ObservedGeneration: o.Generation,
			LastTransitionTime: *second(since)}
		if is {
			c.Status = metav1.ConditionTrue
		}
		if was := meta.FindStatusCondition(o.Status.Conditions, kind); was != nil && was.Status == c.Status {
			c.LastTransitionTime = was.LastTransitionTime
		}
		s.Conditions = append(s.Conditions, c)
	}
}

// end sets what a final phase has.
func (set setter) end(state api.RolloutState, message string, at time.Time) {
	reason := strings.ToUpper(string(state[:1])) + string(state[1:])
	set(v1alpha1.ConditionFinished, true, reason, message, at)
	set(v1alpha1.ConditionSucceeded, state == api.RolloutSucceeded, reason, message, at)
}

func second(t time.Time) *metav1.Time { return &metav1.Time{Time: t.Truncate(time.Second)} }

// clip fits a text into a field.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), api.MaxReasonBytes)], "") }
