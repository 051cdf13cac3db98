package bridge

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Network is the pod network as a place for nodes. Where Kubernetes gives out its addresses, each node takes a part of it, a device too,
// which has no use for it; a machine that finds none left has no network.
type Network struct {
	Ranges  []string // as k3s's servers were started; empty: not known
	Room    int      // how many nodes all of Ranges have parts for; 0: not known, or nobody gives out parts
	Nodes   int
	Devices int // those among them that ours says
	Without int // nodes that wait for a part, although others have one
}

const (
	// spare is how many parts devices leave to machines, or a quarter of them all where that is less.
	spare = 16
	// given is after which time a node without a part waits in vain: it takes well under a second.
	given = time.Minute
	// k3sRange is the pod network of k3s and RKE2 when nobody says another.
	k3sRange    = "10.42.0.0/16"
	labelServer = "node-role.kubernetes.io/control-plane" // a kubelet may not give it to itself
)

// NetworkOf tells what the nodes of a cluster say of its pod network. The range itself is a flag of the controller manager that nobody can
// ask for, but servers of k3s have their flags on their Node.
func NetworkOf(nodes []corev1.Node, ours func(*corev1.Node) bool, now time.Time) Network {
	n := Network{Nodes: len(nodes)}
	var parts []netip.Prefix
	said := ""
	for i := range nodes {
		node := &nodes[i]
		if ours(node) {
			n.Devices++
		}
		if r := rangeOfServer(node); r != "" {
			said = r
		}
		cidrs := node.Spec.PodCIDRs
		if len(cidrs) == 0 && now.Sub(node.CreationTimestamp.Time) > given {
			n.Without++
		}
		for _, cidr := range cidrs {
			if p, err := netip.ParsePrefix(cidr); err == nil {
				parts = append(parts, p.Masked())
			}
		}
	}
	if len(parts) == 0 { // nobody gives out parts
		n.Without = 0
		return n
	}
	if said != "" {
		n.Ranges, n.Room = room(said, parts)
	}
	return n
}

// rangeOfServer is the pod network that a server of k3s or RKE2 was started with; empty for any other node.
func rangeOfServer(node *corev1.Node) string {
	if _, server := node.Labels[labelServer]; !server {
		return ""
	}
	for _, kind := range []string{"k3s.io/node-args", "rke2.io/node-args"} {
		raw, has := node.Annotations[kind]
		if !has {
			continue
		}
		var args, ranges []string
		if json.Unmarshal([]byte(raw), &args) != nil {
			return ""
		}
		for i, arg := range args {
			if arg == "--cluster-cidr" && i+1 < len(args) {
				ranges = append(ranges, args[i+1])
			}
		}
		if len(ranges) == 0 {
			return k3sRange
		}
		return strings.Join(ranges, ",")
	}
	return ""
}

// room counts how many parts of the size that is given out the ranges have; the one with the fewest counts. It knows nothing when a part
// is in none of them.
func room(said string, parts []netip.Prefix) (ranges []string, least int) {
	for text := range strings.SplitSeq(said, ",") {
		whole, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, 0
		}
		at := slices.IndexFunc(parts, func(p netip.Prefix) bool { return whole.Contains(p.Addr()) && p.Bits() >= whole.Bits() })
		if at < 0 {
			return nil, 0
		}
		count := 1 << min(parts[at].Bits()-whole.Bits(), 30)
		ranges = append(ranges, whole.String())
		if least == 0 || count < least {
			least = count
		}
	}
	return ranges, least
}

func (n *Network) reserve() int { return min(spare, max(n.Room/4, 1)) }

// Refuses says why one more device is not to be a node, after made others have become one since; empty: it may. limit is the number of
// devices that a person has set; 0: as many as leave machines their room.
func (n *Network) Refuses(limit, made int) string {
	switch {
	case limit > 0 && n.Devices+made >= limit:
		return fmt.Sprintf("kube.max_nodes is %d, and as many devices are nodes", limit)
	case limit > 0:
		return ""
	case n.Without > 0:
		return fmt.Sprintf("the pod network has no part left: %d nodes wait for theirs", n.Without)
	case n.Room > 0 && n.Nodes+made >= n.Room-n.reserve():
		return fmt.Sprintf("the pod network %s has room for %d nodes, %d are there, and the last %d are for machines",
			strings.Join(n.Ranges, ","), n.Room, n.Nodes+made, n.reserve())
	}
	return ""
}

// Trouble says that machines are in danger; empty: they are not.
func (n *Network) Trouble() string {
	switch {
	case n.Without > 0:
		return fmt.Sprintf("%d of %d nodes have no part of the pod network, because none is left: a machine among them has no pods with a network", n.Without, n.Nodes)
	case n.Room > 0 && n.Nodes >= n.Room-n.reserve():
		return fmt.Sprintf("the pod network %s has room for %d nodes, and %d are there: machines that join find it used up soon",
			strings.Join(n.Ranges, ","), n.Room, n.Nodes)
	}
	return ""
}
