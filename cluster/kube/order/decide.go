package order

import (
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/api/edge/v1alpha1"
)

// What marks an object as taken.
const (
	// Finalizer has the deletion of an open command cancel it first.
	Finalizer = "edge.mlsysops.eu/cancel"
	// AnnotationAgent is the cluster agent whose journal has the command: that one alone ends it.
	AnnotationAgent = "edge.mlsysops.eu/agent"
)

// idPrefix and the object's UID make a command's id, so that an object is one command however often it is looked at.
const idPrefix = "kube-"

// ID is the id of o's command in the journal.
func ID(o *v1alpha1.NodeCommand) string { return idPrefix + string(o.UID) }

// View is what is known of one command, here and in Kubernetes.
type View struct {
	Object *v1alpha1.NodeCommand
	Record *api.CommandRecord // of the journal; nil: it has none
	Agent  string             // this cluster agent
	Leads  bool               // it is the one that answers for what nobody else does
	Owns   Ownership
	Grace  time.Duration // after a deadline, before the journal closes a command
	Now    time.Time
}

// Ownership says who acts for a command's node.
type Ownership int

// The ownerships.
const (
	Here      Ownership = iota // this cluster agent
	Elsewhere                  // another replica
	Nobody                     // the node is not known
)

// Step is what is to be done next about a command: the first of its parts that is set.
type Step struct {
	Claim   bool                        // note in the object that this agent takes it
	Submit  bool                        // order it
	Cancel  bool                        // ask for its end, then Release
	Release bool                        // take the finalizer off
	Delete  bool                        // its time after the end is over
	Status  *v1alpha1.NodeCommandStatus // write this
	Again   time.Duration               // look again after this long; 0: when something changes
}

// abandoned is how long after its deadline a command whose agent says nothing is closed by another.
const abandoned = time.Hour

// Decide is pure, and safe to repeat: each step leads to a state from which it is not decided again.
func Decide(v View) Step {
	o := v.Object
	deadline, ok := Deadline(o)
	if ok && v.Record != nil {
		deadline = v.Record.Deadline.Time()
	}
	final := api.Phase(o.Status.Phase).Final()
	if !mine(&v, deadline) {
		if taker := o.Annotations[AnnotationAgent]; v.Leads && taker != "" && !final && v.Now.Before(deadline.Add(abandoned)) {
			return Step{Again: deadline.Add(abandoned).Sub(v.Now) + time.Second}
		}
		return Step{}
	}
	switch {
	case o.DeletionTimestamp != nil:
		return decideDeleted(&v)
	case final:
		return decideFinal(&v)
	case v.Record != nil:
		return mirror(&v)
	case !ok:
		return Step{Status: closed(o, api.PhaseRejected, "deadline "+o.Spec.Deadline+": wanted a duration such as 30s, or an RFC 3339 instant", v.Now)}
	case o.Status.ID != "" || o.Status.Phase != "":
		return decideForgotten(&v, deadline)
	case !v.Now.Before(deadline):
		return Step{Status: closed(o, api.PhaseExpired, "it was not ordered before its deadline", v.Now)}
	case !claimed(o, v.Agent):
		return Step{Claim: true}
	}
	return Step{Submit: true}
}

// mine reports whether a command is this agent's to deal with: it took it, or the node is its own and nobody has.
func mine(v *View, deadline time.Time) bool {
	switch taker := v.Object.Annotations[AnnotationAgent]; {
	case taker == v.Agent:
		return true
	case taker != "":
		return v.Leads && !v.Now.Before(deadline.Add(abandoned)) // its agent is gone
	case v.Owns == Nobody || v.Object.Status.Phase != "":
		return v.Leads
	}
	return v.Owns == Here
}

func claimed(o *v1alpha1.NodeCommand, agent string) bool {
	return o.Annotations[AnnotationAgent] == agent && held(o)
}

func held(o *v1alpha1.NodeCommand) bool {
	for _, f := range o.Finalizers {
		if f == Finalizer {
			return true
		}
	}
	return false
}

func decideDeleted(v *View) Step {
	switch {
	case !held(v.Object):
		return Step{}
	case v.Record != nil && !v.Record.Final:
		return Step{Cancel: true}
	}
	return Step{Release: true}
}

// decideFinal adds what the node said after the close, lets go, and deletes when it is time.
func decideFinal(v *View) Step {
	o := v.Object
	if v.Record != nil {
		if s := Status(o, v.Record); s.Phase == o.Status.Phase && s.Outcome != o.Status.Outcome {
			return Step{Status: &s}
		}
	}
	if held(o) {
		return Step{Release: true}
	}
	if o.Spec.TTLSecondsAfterFinished == nil || o.Status.Finished == nil {
		return Step{}
	}
	left := o.Status.Finished.Add(time.Duration(*o.Spec.TTLSecondsAfterFinished) * time.Second).Sub(v.Now)
	if left > 0 {
		return Step{Again: left}
	}
	return Step{Delete: true}
}

// mirror writes what the journal says, when that is further on. A journal that was lost, and began the command anew under
// its id, may be behind for a while.
func mirror(v *View) Step {
	s := Status(v.Object, v.Record)
	was := api.Phase(v.Object.Status.Phase)
	if was != "" && was != v.Record.Phase && !was.CanBecome(v.Record.Phase) || same(&s, &v.Object.Status) {
		return Step{}
	}
	return Step{Status: &s}
}

// decideForgotten is about a command that was in the journal and is not now. What became of it nobody can say. It is not
// ordered again: the device may have done it.
func decideForgotten(v *View, deadline time.Time) Step {
	if left := deadline.Add(v.Grace).Sub(v.Now); left > 0 {
		return Step{Again: left + time.Second}
	}
	phase := api.PhaseExpired
	switch api.Phase(v.Object.Status.Phase) {
	case api.PhaseAccepted, api.PhaseRunning, api.PhaseInterrupted:
		phase = api.PhaseTimedOut
	}
	return Step{Status: closed(v.Object, phase, "the cluster agent's journal has it no longer; what became of it on the device is not known", v.Now)}
}

// Deadline is when o's command is closed: the instant that it names, or so long after its creation. ok is false when it is
// neither, which the API server lets nobody write.
func Deadline(o *v1alpha1.NodeCommand) (at time.Time, ok bool) {
	var d api.Deadline
	if err := d.UnmarshalText([]byte(o.Spec.Deadline)); err != nil {
		return time.Time{}, false
	}
	return d.Resolve(o.CreationTimestamp.Time), true
}
