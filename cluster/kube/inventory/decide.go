package inventory

import (
	"strconv"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
	v1 "github.com/skerry-edge/skerry/api/v1"
	"github.com/skerry-edge/skerry/cluster/registry"
)

// What marks an object as the cluster agent's.
const (
	// Finalizer has the deletion of an object wait until the device is decommissioned.
	Finalizer = "edge.mlsysops.eu/decommission"
	// LabelCluster is the cluster whose agent keeps the object.
	LabelCluster = "edge.mlsysops.eu/cluster"
	// AnnotationEnrolment is which enrolment of the device the object stands for, so that what was meant for one device is not
	// done to a later one of the same id.
	AnnotationEnrolment = "edge.mlsysops.eu/enrolment"
	// AnnotationApplied is a digest of what was last written, so that what is not wanted any more is noticed.
	AnnotationApplied = "edge.mlsysops.eu/applied"
)

// Verdict is what is to be done about one node and its object.
type Verdict string

// The verdicts.
const (
	Nothing      Verdict = "nothing"
	Write        Verdict = "write"        // create the object, or bring it and its status up to date
	Decommission Verdict = "decommission" // the object was deleted: so is the node; then Release
	Release      Verdict = "release"      // let go of a deleted object without touching any node
	Delete       Verdict = "delete"       // the node was removed here: so is the object
	Orphan       Verdict = "orphan"       // nobody knows the node: say so, and leave it
	Foreign      Verdict = "foreign"      // another cluster's agent keeps the object
	Unnamable    Verdict = "unnamable"    // the node's id cannot be the name of an object
)

// View is what is known of one node, here and in Kubernetes.
type View struct {
	Cluster   string
	Node      *api.Node           // nil: the registry does not know it
	Tombstone *registry.Tombstone // nil: nor that it was removed
	Object    *v1.MLSysOpsNode    // nil: there is none
	// Keep is set when objects vanish for a reason that says nothing of devices: the namespace or the CRD is being deleted.
	Keep bool
}

// Decide is pure. A registry that does not know a node is no reason to delete anything, for it may be empty, or have been
// restored: that takes the tombstone of that very enrolment.
func Decide(v View) Verdict {
	o := v.Object
	if o != nil && o.GetLabels()[LabelCluster] != "" && o.GetLabels()[LabelCluster] != v.Cluster {
		return Foreign
	}
	switch {
	case o != nil && o.DeletionTimestamp != nil:
		return decideDeleted(v)
	case v.Node != nil && !api.ValidDNSName(v.Node.ID): // nearly all can; ids may also end in '-' or have ".." in them
		return Unnamable
	case v.Node != nil:
		return Write
	case o == nil || !ours(o):
		return Nothing // a description without a device yet
	case v.Tombstone != nil && buried(o, v.Tombstone):
		return Delete
	}
	return Orphan
}

func decideDeleted(v View) Verdict {
	switch {
	case !ours(v.Object):
		return Nothing
	case v.Keep, v.Node != nil && v.Object.Annotations[AnnotationEnrolment] != Enrolment(v.Node):
		return Release // a device that enrolled after this object was written has no part in its deletion
	}
	return Decommission // also of a node that the registry does not know: enrolment may
}

// ours reports whether the cluster agent has written the object.
func ours(o *v1.MLSysOpsNode) bool {
	for _, f := range o.Finalizers {
		if f == Finalizer {
			return true
		}
	}
	return false
}

// keyDigits is how much of a key's digest an enrolment's name has.
const keyDigits = 16

// Enrolment names the enrolment of n: when it was, and with which key.
func Enrolment(n *api.Node) string {
	return strconv.FormatInt(int64(n.Enrolled), 10) + "." + n.KeySHA256[:min(len(n.KeySHA256), keyDigits)]
}

// buried reports whether stone is that of the enrolment which o stands for.
func buried(o *v1.MLSysOpsNode, stone *registry.Tombstone) bool {
	at, key, _ := strings.Cut(o.Annotations[AnnotationEnrolment], ".")
	enrolled, err := strconv.ParseInt(at, 10, 64)
	return err == nil && key == stone.KeySHA256[:min(len(stone.KeySHA256), keyDigits)] && int64(stone.At) >= enrolled
}

// Due is when the time that a node was last seen is to be written again although nothing changed: refresh after the last
// time, but not before the node was seen since. Zero: never.
func Due(n *api.Node, s *v1.NodeStatus, refresh time.Duration) time.Time {
	if n.LastSeen == 0 || s.LastSeen == nil {
		return time.Time{}
	}
	if n.Presence != api.PresenceOnline && n.Presence != api.PresenceDraining && !n.LastSeen.Time().After(s.LastSeen.Add(time.Second)) {
		return time.Time{}
	}
	return s.LastSeen.Add(refresh)
}
