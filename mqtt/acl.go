package mqtt

import (
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// May decides whether id may publish to topic (write), or subscribe to the filter topic and be sent the topic name
// topic (read). It denies everything that the contract does not give:
//
//   - a node publishes what goes up, under its own id, and subscribes to what comes down to it, with "+" nowhere but in
//     the place of a command or stream id;
//   - a viewer reads what Readable lists, of any node: what nodes say of themselves. Not what becomes of commands (their
//     output and results may hold secrets). A filter with wildcards is granted when it is under the cluster and can match
//     something readable; a broker therefore asks again for each message it delivers;
//   - an operator and an admin also publish requests, and read what becomes of requests and commands. Nobody reads what
//     is ordered (desired and commands) and streams (they carry files and terminals);
//   - the cluster agent has everything under its cluster, and reads the broker's own figures ($SYS);
//   - shared subscriptions are nobody's: they would take messages away from other readers.
func (t Topics) May(id Identity, topic string, write bool) bool {
	if id.Cluster != t.Cluster {
		return false
	}
	switch {
	case id.Kind == ClusterIdentity:
		own := strings.HasPrefix(topic, t.Root+"/"+t.Cluster+"/")
		return own && !(write && wild(topic)) || !write && strings.HasPrefix(topic, "$SYS/")
	case write:
		return t.mayPublish(id, topic)
	case wild(topic):
		return t.maySubscribe(id, topic)
	}
	return t.mayRead(id, topic)
}

// Readable lists what somebody with a role may read.
func Readable(role api.Role) []Kind {
	switch {
	case role.Includes(api.RoleOperator):
		return []Kind{KindState, KindBirth, KindTele, KindEvent, KindReported, KindCmdStatus, KindRequestStatus}
	case role.Includes(api.RoleViewer):
		return []Kind{KindState, KindBirth, KindTele, KindEvent, KindReported}
	}
	return nil
}

// granted is what May needs of the contract, by kind. It is read only.
var granted = func() (g [lastKind + 1]struct {
	dir     Direction
	readers api.Role // least role that may read it; empty: nobody
	levels  []string // of the suffix, "+" for an id
}) {
	for _, e := range Contract() {
		g[e.Kind].dir = e.Dir
		for _, role := range []api.Role{api.RoleAdmin, api.RoleOperator, api.RoleViewer} {
			if slices.Contains(Readable(role), e.Kind) {
				g[e.Kind].readers = role
			}
		}
		g[e.Kind].levels = strings.Split(strings.Replace(e.Suffix, "{id}", "+", 1), "/")
	}
	return g
}()

func (t Topics) mayPublish(id Identity, topic string) bool {
	parsed, err := t.Parse(topic)
	if err != nil {
		return false
	}
	switch id.Kind {
	case NodeIdentity:
		return granted[parsed.Kind].dir == Up && parsed.Node == id.Name
	case OperatorIdentity:
		return granted[parsed.Kind].dir == Ask && id.Role.Includes(api.RoleOperator)
	}
	return false
}

// mayRead decides about a topic name.
func (t Topics) mayRead(id Identity, topic string) bool {
	parsed, err := t.Parse(topic)
	if err != nil {
		return false
	}
	switch id.Kind {
	case NodeIdentity:
		return granted[parsed.Kind].dir == Down && parsed.Node == id.Name
	case OperatorIdentity:
		return id.Role.Includes(granted[parsed.Kind].readers)
	}
	return false
}

// maySubscribe decides about a filter with wildcards.
func (t Topics) maySubscribe(id Identity, filter string) bool {
	rest, ok := strings.CutPrefix(filter, t.Root+"/"+t.Cluster+"/")
	if !ok {
		return false
	}
	levels := strings.Split(rest, "/")
	for i := range granted {
		g := &granted[i]
		switch id.Kind {
		case NodeIdentity:
			if g.dir == Down && levels[0] == id.Name && slices.Equal(levels[1:], g.levels) {
				return true
			}
		case OperatorIdentity:
			if id.Role.Includes(g.readers) && overlap(levels, g.levels) {
				return true
			}
		}
	}
	return false
}

// overlap reports whether filter, whose first level stands for the node, can match a topic of the kind with suffix.
func overlap(filter, suffix []string) bool {
	for i, level := range filter {
		if level == "#" { // [MQTT-4.7.1-2]
			return i == len(filter)-1
		}
		if i > len(suffix) {
			return false
		}
		want := "+"
		if i > 0 {
			want = suffix[i-1]
		}
		if level != "+" && level != want && (want != "+" || api.ValidID("id", level) != nil) {
			return false
		}
	}
	return len(filter) == len(suffix)+1
}

func wild(topic string) bool { return strings.ContainsAny(topic, "+#") }
