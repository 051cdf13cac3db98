package inventory

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-edge/skerry/api"
	v1 "github.com/skerry-edge/skerry/api/v1"
	"github.com/skerry-edge/skerry/cluster/registry"
)

func TestNothingIsDeletedForAnotherReasonThanAWordAboutThatVeryDevice(t *testing.T) {
	n := device()
	object := func(change func(o *v1.MLSysOpsNode)) *v1.MLSysOpsNode {
		o, _ := render(t, n, nil)
		if change != nil {
			change(o)
		}
		return o
	}
	deleted := func(o *v1.MLSysOpsNode) { o.DeletionTimestamp = &metav1.Time{Time: time.Now()} }
	later := *n
	later.Enrolled++
	stone := registry.Tombstone{Node: n.ID, KeySHA256: n.KeySHA256, At: n.Enrolled + 1}
	before, other := stone, stone
	before.At, other.KeySHA256 = n.Enrolled-1, "fedcba9876543210"
	users := &v1.MLSysOpsNode{ObjectMeta: metav1.ObjectMeta{Name: n.ID}}
	odd := *n
	odd.ID = "pi-"
	for name, c := range map[string]struct {
		view View
		want Verdict
	}{
		"a new device":                                {View{Node: n}, Write},
		"a device that has its object":                {View{Node: n, Object: object(nil)}, Write},
		"a description that was there before":         {View{Node: n, Object: users}, Write},
		"a description without a device":              {View{Object: users}, Nothing},
		"neither":                                     {View{}, Nothing},
		"removed here":                                {View{Object: object(nil), Tombstone: &stone}, Delete},
		"the registry is empty, or restored":          {View{Object: object(nil)}, Orphan},
		"removed before this one enrolled":            {View{Object: object(nil), Tombstone: &before}, Orphan},
		"removed, with another key":                   {View{Object: object(nil), Tombstone: &other}, Orphan},
		"the object was deleted":                      {View{Node: n, Object: object(deleted)}, Decommission},
		"deleted, and the registry knows no device":   {View{Object: object(deleted)}, Decommission},
		"deleted, and the device enrolled anew since": {View{Node: &later, Object: object(deleted)}, Release},
		"the namespace or the CRD goes":               {View{Node: n, Object: object(deleted), Keep: true}, Release},
		"deleted, and never written here": {View{Node: n, Object: object(func(o *v1.MLSysOpsNode) {
			deleted(o)
			o.Finalizers = []string{"example.com/other"}
		})}, Nothing},
		"another cluster's":          {View{Node: n, Object: object(func(o *v1.MLSysOpsNode) { o.GetLabels()[LabelCluster] = "barn-2" })}, Foreign},
		"another cluster's, deleted": {View{Node: n, Object: object(func(o *v1.MLSysOpsNode) { o.GetLabels()[LabelCluster] = "barn-2"; deleted(o) })}, Foreign},
		"a name that is none":        {View{Node: &odd}, Unnamable},
	} {
		c.view.Cluster = "barn-1"
		if got := Decide(c.view); got != c.want {
			t.Errorf("%s: %s; wanted %s", name, got, c.want)
		}
	}
}

func TestTheStatusTellsPresenceAndWhy(t *testing.T) {
	n := device()
	for presence, want := range map[api.Presence][2]string{ // Connected and Ready
		api.PresenceOnline: {"True Online", "True Online"}, api.PresenceDraining: {"True Draining", "False Draining"},
		api.PresenceSleeping: {"False Sleeping", "False Sleeping"}, api.PresenceOffline: {"False Offline", "False Offline"},
		api.PresenceDisconnected: {"False Disconnected", "False Disconnected"}, api.PresenceLost: {"False Lost", "False Lost"},
		api.PresenceEnrolled: {"False NeverConnected", "False NeverConnected"},
	} {
		n.Presence, n.Reason = presence, "because"
		s := Status(n, &v1.NodeStatus{}, 3, time.Now())
		for i, c := range s.Conditions {
			if got := string(c.Status) + " " + c.Reason; got != want[i] || c.Message != "because" || c.ObservedGeneration != 3 {
				t.Errorf("%s: %s is %s (%s); wanted %s", presence, c.Type, got, c.Message, want[i])
			}
		}
		if s.Presence != v1.Presence(presence) || !s.Conditions[0].LastTransitionTime.Equal(&metav1.Time{Time: n.Since.Time()}) {
			t.Errorf("%s: %+v", presence, s)
		}
	}
	n.Presence, n.Reason = api.PresenceDisconnected, registry.ReasonBroker
	if s := Status(n, &v1.NodeStatus{}, 1, time.Now()); s.Conditions[0].Status != metav1.ConditionUnknown {
		t.Errorf("%+v; wanted Unknown while the agent is out of touch itself", s.Conditions[0])
	}
	n.Presence, n.Birth = api.PresenceOnline, nil
	if s := Status(n, &v1.NodeStatus{}, 1, time.Now()); s.Conditions[1].Status != metav1.ConditionFalse || s.Conditions[1].Reason != "NotDescribed" {
		t.Errorf("%+v; wanted not ready without a birth", s.Conditions[1])
	}
}

func TestADeviceThatThereIsNoRoomForSaysSoUntilThereIs(t *testing.T) {
	was := Status(device(), &v1.NodeStatus{}, 1, time.Now())
	if _, told := virtual("", &was, 1, time.Now()); told {
		t.Error("a device that there is room for has one more condition")
	}
	c, told := virtual("full", &was, 1, time.Now())
	if !told || c.Status != metav1.ConditionFalse || c.Message != "full" {
		t.Errorf("%+v, %v", c, told)
	}
	is := was
	is.Conditions = append(slices.Clone(was.Conditions), c)
	if !Differs(&is, &was) {
		t.Error("it is not written")
	}
	if c, told = virtual("", &is, 1, time.Now()); !told || c.Status != metav1.ConditionTrue {
		t.Errorf("there is room again: %+v, %v", c, told)
	}
}

func TestAStatusIsWrittenWhenItSaysSomethingNewOrAfterAWhile(t *testing.T) {
	n := device()
	const refresh = 5 * time.Minute
	was := Status(n, &v1.NodeStatus{}, 1, time.Now())
	n.LastSeen += 60_000
	if is := Status(n, &was, 1, time.Now()); Differs(&is, &was) {
		t.Errorf("that it was seen again is news: %+v, %+v", is, was)
	}
	if due := Due(n, &was, refresh); !due.Equal(was.LastSeen.Add(refresh)) {
		t.Errorf("due at %s; wanted %s after %s", due, refresh, was.LastSeen)
	}
	n.Presence = api.PresenceOffline
	is := Status(n, &was, 1, time.Now())
	if !Differs(&is, &was) {
		t.Error("that it went away is no news")
	}
	n.LastSeen = api.At(was.LastSeen.Time)
	if due := Due(n, &was, refresh); !due.IsZero() {
		t.Errorf("a node that is away and was not seen since is due at %s", due)
	}
	gone := Unknown(&is, 1, time.Now())
	if !Differs(&gone, &is) || !strings.Contains(gone.Conditions[0].Message, "restored") {
		t.Errorf("%+v", gone)
	}
	if again := Unknown(&gone, 1, time.Now().Add(time.Hour)); Differs(&again, &gone) {
		t.Error("an orphan's status is written again and again")
	}
}
