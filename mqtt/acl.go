package mqtt

import (
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// May decides whether id may publish to topic (write) or subscribe to the filter topic. It denies everything that the
// contract does not give:
//
//   - a node publishes what goes up, under its own id, and subscribes to what comes down to it, with "+" nowhere but in
//     the place of an id;
//   - a viewer subscribes to what nodes say and to the fate of requests, of one node or all; not to what is ordered
//     (desired may hold configuration) and not to streams (they carry file contents and command output);
//   - an operator also publishes requests;
//   - the cluster agent has everything under its cluster.
func (t Topics) May(id Identity, topic string, write bool) bool {
	if id.Cluster != t.Cluster {
		return false
	}
	if id.Kind == ClusterIdentity {
		return strings.HasPrefix(topic, t.Root+"/"+t.Cluster+"/") || !write && topic == t.All()
	}
	if write {
		return t.mayPublish(id, topic)
	}
	return t.maySubscribe(id, topic)
}

func (t Topics) mayPublish(id Identity, topic string) bool {
	parsed, err := t.Parse(topic)
	if err != nil {
		return false
	}
	entry, _ := EntryOf(parsed.Kind)
	switch id.Kind {
	case NodeIdentity:
		return entry.Dir == Up && parsed.Node == id.Name
	case OperatorIdentity:
		return entry.Dir == Ask && id.Role.Includes(api.RoleOperator)
	}
	return false
}

// maySubscribe compares with the few filters that exist, rather than reasoning about wildcards.
func (t Topics) maySubscribe(id Identity, filter string) bool {
	for _, e := range Contract() {
		switch id.Kind {
		case NodeIdentity:
			if e.Dir == Down && matchesFilter(t.Filter(e.Kind, id.Name), filter) {
				return true
			}
		case OperatorIdentity:
			if slices.Contains(Readable(), e.Kind) && t.readable(e, filter) {
				return true
			}
		}
	}
	return false
}

// Readable lists what a viewer may read.
func Readable() []Kind {
	return []Kind{KindState, KindBirth, KindTele, KindEvent, KindReported, KindCmdStatus, KindRequestStatus}
}

// readable reports whether filter asks for e of one node or of all.
func (t Topics) readable(e Entry, filter string) bool {
	rest, ok := strings.CutPrefix(filter, t.Root+"/"+t.Cluster+"/")
	if !ok {
		return false
	}
	node, _, ok := strings.Cut(rest, "/")
	if !ok || node != "+" && api.ValidID("node", node) != nil {
		return false
	}
	return matchesFilter(t.Filter(e.Kind, node), filter)
}

// matchesFilter reports whether asked is granted, level by level: the same, or an id where granted has "+".
func matchesFilter(granted, asked string) bool {
	g, a := strings.Split(granted, "/"), strings.Split(asked, "/")
	if len(g) != len(a) {
		return false
	}
	for i := range g {
		if g[i] != a[i] && (g[i] != "+" || api.ValidID("id", a[i]) != nil) {
			return false
		}
	}
	return true
}
