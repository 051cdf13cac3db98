package vnode

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/bridge"
)

// ofSize is a bound pod, made at a time, whose workload takes so many bytes.
func ofSize(uid string, at int64, bytes int) bound {
	w := aWorkload(uid, "i")
	w.Sealed = &api.Sealed{ID: "a", Key: "k"}
	w.Containers[0].Args = []string{strings.Repeat("x", bytes-size(&w)-len(`,"args":[""]`))}
	p := aPod(uid)
	p.CreationTimestamp = metav1.Unix(at, 0)
	return bound{pod: p, want: &w}
}

func left(pods []bound) (out []string) {
	for i := range pods {
		if _, ok := errors.AsType[*bridge.NoRoom](pods[i].failed); ok {
			out = append(out, pods[i].pod.Name)
		}
	}
	return out
}

func TestOfPodsThatDoNotFitTheYoungestAreLeftOut(t *testing.T) {
	pods := []bound{ofSize("c", 3, 1000), ofSize("big", 2, 5000), ofSize("a", 1, 1000)}
	if got := fit(nil, pods, 2500); !slices.Equal(left(got), []string{"big"}) || got[1].want != nil {
		t.Errorf("%v wait; wanted the one that fits nowhere alone", left(got))
	}
	if got := fit(nil, pods, 6500); !slices.Equal(left(got), []string{"c"}) {
		t.Errorf("%v wait; wanted the youngest", left(got))
	}
	if got := fit(nil, pods, 7000); left(got) != nil || !slices.Equal(names(plan(nil, got)), []string{"a", "big", "c"}) {
		t.Errorf("%v wait where all fit", left(got))
	}
	if pods[1].want == nil {
		t.Error("what was given is changed: with more room it would not come back")
	}
}

func TestAPodThatDoesNotFitSaysTheSizes(t *testing.T) {
	got := fit(nil, []bound{ofSize("a", 1, 1000), ofSize("b", 2, 1200)}, 2000)
	if err := got[1].failed; err == nil || !strings.Contains(err.Error(), "takes 1200 bytes") || !strings.Contains(err.Error(), "1000 of 2000 are free") {
		t.Errorf("%v", err)
	}
	got = fit(nil, []bound{ofSize("b", 2, 3000)}, 2000)
	if err := got[0].failed; err == nil || !strings.Contains(err.Error(), "all pods of a device may take 2000") {
		t.Errorf("%v", err)
	}
}

func TestWhatTheDocumentHasStaysWhateverElseIsWanted(t *testing.T) {
	young, old := ofSize("young", 9, 1000), ofSize("old", 1, 1000)
	have := []api.Workload{*young.want}
	if got := fit(have, []bound{old, young}, 1500); !slices.Equal(left(got), []string{"old"}) || !slices.Equal(names(plan(have, got)), []string{"young"}) {
		t.Errorf("%v wait: what runs is taken away for another pod", left(got))
	}
	if got := fit(have, []bound{old, young}, 500); !slices.Equal(names(plan(have, got)), []string{"young"}) {
		t.Errorf("with a configuration that has grown the device keeps %v", names(plan(have, got)))
	}
	next := ofSize("young", 9, 1600)
	next.want.Containers[0].Image = "i2"
	got := fit(have, []bound{old, next}, 1500)
	if doc := plan(have, got); len(doc) != 1 || doc[0].Containers[0].Image != "i" || !slices.Equal(left(got), []string{"old", "young"}) {
		t.Errorf("a new form that does not fit: %+v, %v wait", doc, left(got))
	}
	got = fit(have, []bound{old, next}, 2500)
	if doc := plan(have, got); len(doc) != 1 || doc[0].Containers[0].Image != "i2" {
		t.Errorf("a new form of what runs does not go before a new pod: %+v", doc)
	}
}

// TestADocumentNeverOutgrowsItsRoom has pods come, change, end and go at random: what is planned fits, also when all of it drains, and
// nothing that is there goes for another one.
func TestADocumentNeverOutgrowsItsRoom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		const room = 20_000
		var have []api.Workload
		var pods []bound
		for i := range 100 {
			switch at := rng.IntN(len(pods) + 1); {
			case at == len(pods) || rng.IntN(3) == 0:
				pods = append(pods, ofSize(fmt.Sprint("p", i), int64(rng.IntN(100)), 500+rng.IntN(6000)))
			case rng.IntN(2) == 0:
				pods = slices.Delete(pods, at, at+1)
			default:
				now, grace := metav1.Now(), int64(1<<40)
				pods[at].pod.DeletionTimestamp, pods[at].pod.DeletionGracePeriodSeconds, pods[at].want = &now, &grace, nil
			}
			fitting := fit(have, pods, room)
			next := plan(have, fitting)
			raw := 0
			for i := range next {
				raw += size(&next[i]) - growth
			}
			if raw > room {
				t.Fatalf("%d bytes; room for %d", raw, room)
			}
			for _, w := range have {
				if slices.ContainsFunc(pods, func(b bound) bool { return string(b.pod.UID) == w.Name }) && !slices.Contains(names(next), w.Name) {
					t.Fatalf("%s is taken away", w.Name)
				}
			}
			have = next
		}
	}
}

func TestAConfigMapThatHasGrownTooLargeLeavesItsPodAsItIs(t *testing.T) {
	pods := []bound{ofSize("a", 1, 1000), ofSize("b", 2, 1000)}
	have := plan(nil, pods)
	grown := ofSize("a", 1, 1600)
	grown.want.Sealed.ID, grown.renews = "b", true
	got := fit(have, []bound{grown, pods[1]}, 2500)
	if next := plan(have, got); !slices.Equal(left(got), []string{"a"}) || next[0].Sealed.ID != "a" || len(next) != 2 {
		t.Errorf("%v wait, and the document has %v", left(got), names(next))
	}
	if got = fit(have, []bound{grown, pods[1]}, 2600); left(got) != nil || plan(have, got)[0].Sealed.ID != "b" {
		t.Errorf("%v wait where there is room", left(got))
	}
}
