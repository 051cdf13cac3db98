package vnode

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/bridge"
)

// growth is by what a workload may grow while it is in the document: it drains, within so many seconds, and has a limit of them.
const growth = 96

// size is what a workload takes in the document.
func size(w *api.Workload) int {
	raw, err := json.Marshal(w)
	if err != nil { // what cannot be written fits nowhere
		return math.MaxInt32
	}
	return len(raw) + len(",") + growth
}

// fit returns pods without the workloads that the document has no room for. What it has already stays, whatever else is wanted; another
// form of that, such as a ConfigMap that has grown, comes before new ones, and an older pod before a younger one. One that does not fit keeps no smaller one out.
func fit(have []api.Workload, pods []bound, room int) []bound {
	out, kept := slices.Clone(pods), slices.Clone(pods)
	whole := room
	var more []int
	there := map[int]int{} // what the document has of it
	for i := range out {
		at := slices.IndexFunc(have, func(w api.Workload) bool { return w.Name == string(out[i].pod.UID) })
		if out[i].want == nil || at >= 0 && out[i].keeps(&have[at]) {
			continue
		}
		if at >= 0 {
			there[i] = size(&have[at])
		}
		more = append(more, i)
		kept[i].want = nil
	}
	stays := plan(have, kept)
	for i := range stays {
		room -= size(&stays[i])
	}
	slices.SortFunc(more, func(a, b int) int {
		return cmp.Or(cmp.Compare(min(there[b], 1), min(there[a], 1)), older(out[a].pod, out[b].pod))
	})
	for _, i := range more {
		takes := size(out[i].want)
		adds := takes - there[i]
		if adds > 0 && adds > room {
			out[i].want, out[i].failed = nil, &bridge.NoRoom{Takes: takes, Free: max(room+there[i], 0), Whole: whole}
			continue
		}
		room -= adds
	}
	return out
}

func older(a, b *corev1.Pod) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(string(a.UID), string(b.UID)))
}
