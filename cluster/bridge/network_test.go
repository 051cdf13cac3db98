package bridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fleet is a server of k3s with args, and devices, each with its part of the range.
func fleet(devices int, args string) []corev1.Node {
	nodes := []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{labelServer: "true"}, Annotations: map[string]string{"k3s.io/node-args": args}}}}
	nodes = append(nodes, make([]corev1.Node, devices)...)
	for i := range nodes {
		nodes[i].Spec.PodCIDRs = []string{fmt.Sprintf("10.42.%d.0/24", i)}
		if i > 0 {
			nodes[i].Labels = map[string]string{ManagedBy: Manager}
		}
	}
	return nodes
}

func ofNodes(nodes []corev1.Node) Network {
	return NetworkOf(nodes, func(n *corev1.Node) bool { return n.Labels[ManagedBy] == Manager }, noon)
}

func TestDevicesLeaveMachinesTheLastPartsOfThePodNetwork(t *testing.T) {
	for _, c := range []struct {
		args          string
		devices, made int
		limit         int
		refuses       string
		trouble       string
	}{
		{args: `["server"]`, devices: 238},
		{args: `["server"]`, devices: 239, refuses: "10.42.0.0/16 has room for 256 nodes, 240 are there, and the last 16 are for machines", trouble: "has room for 256 nodes, and 240 are there"},
		{args: `["server"]`, devices: 230, made: 9, refuses: "240 are there"},
		{args: `["server","--cluster-cidr","10.42.0.0/12","--disable","traefik"]`, devices: 250},
		{args: `["server","--cluster-cidr","10.42.0.0/12","--cluster-cidr","10.42.0.0/17"]`, devices: 111, refuses: "for 128 nodes", trouble: "for 128"},
		{args: `["server","--cluster-cidr","10.42.0.0/21"]`, devices: 4},
		{args: `["server","--cluster-cidr","10.42.0.0/21"]`, devices: 5, refuses: "the last 2 are for machines", trouble: "for 8 nodes"},
		{args: `["server","--cluster-cidr","172.16.0.0/16"]`, devices: 250}, // it was another when the parts were given
		{args: `not JSON`, devices: 250},
		{args: `["server"]`, devices: 20, limit: 20, refuses: "kube.max_nodes is 20"},
		{args: `["server"]`, devices: 18, made: 1, limit: 20},
		{args: `["server"]`, devices: 250, limit: 300, trouble: "251 are there"},
	} {
		n := ofNodes(fleet(c.devices, c.args))
		refuses, trouble := n.Refuses(c.limit, c.made), n.Trouble()
		if (refuses == "") != (c.refuses == "") || !strings.Contains(refuses, c.refuses) {
			t.Errorf("%s, %d devices and %d more, limit %d: refuses %q; wanted %q", c.args, c.devices, c.made, c.limit, refuses, c.refuses)
		}
		if (trouble == "") != (c.trouble == "") || !strings.Contains(trouble, c.trouble) {
			t.Errorf("%s, %d devices: trouble %q; wanted %q", c.args, c.devices, trouble, c.trouble)
		}
	}
}

func TestWithTwoFamiliesTheSmallerRangeCounts(t *testing.T) {
	nodes := fleet(3, `["server","--cluster-cidr","10.42.0.0/12,2001:db8:42::/60"]`)
	for i := range nodes {
		nodes[i].Spec.PodCIDRs = append(nodes[i].Spec.PodCIDRs, fmt.Sprintf("2001:db8:42:%x::/64", i))
	}
	if n := ofNodes(nodes); n.Room != 16 || !slices.Equal(n.Ranges, []string{"10.42.0.0/12", "2001:db8:42::/60"}) {
		t.Errorf("%+v", n)
	}
}

// A machine says about itself what it likes, but not that it is a server.
func TestOnlyAServerSaysWhatThePodNetworkIs(t *testing.T) {
	nodes := fleet(250, `["server"]`)
	nodes[0].Labels = nil
	if n := ofNodes(nodes); n.Room != 0 || n.Refuses(0, 0) != "" {
		t.Errorf("%+v", n)
	}
}

func TestANodeThatWaitsForItsPartShowsThatNoneIsLeft(t *testing.T) {
	nodes := fleet(9, "")
	nodes[3].Spec.PodCIDRs, nodes[3].CreationTimestamp = nil, metav1.NewTime(noon.Add(-time.Second))
	if n := ofNodes(nodes); n.Refuses(0, 0) != "" || n.Trouble() != "" {
		t.Errorf("%+v: it was made this second", n)
	}
	nodes[3].CreationTimestamp = metav1.NewTime(noon.Add(-2 * given))
	if n := ofNodes(nodes); !strings.Contains(n.Refuses(0, 0), "1 nodes wait") || !strings.Contains(n.Trouble(), "1 of 10 nodes") {
		t.Errorf("%+v: %q, %q", n, n.Refuses(0, 0), n.Trouble())
	}
	for i := range nodes { // a cluster whose network gives addresses itself
		nodes[i].Spec.PodCIDRs, nodes[i].CreationTimestamp = nil, nodes[3].CreationTimestamp
	}
	if n := ofNodes(nodes); n.Refuses(0, 0) != "" || n.Trouble() != "" {
		t.Errorf("%+v: nobody gives out parts", n)
	}
}
