package mqtt

import (
	"fmt"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// DefaultRoot is the topic root of wire version 1.
const DefaultRoot = "skerry/v1"

// Topics builds and reads the topics of one cluster.
type Topics struct {
	Root    string // without a trailing slash
	Cluster string
}

// Topic is a parsed topic. ID is the command, stream or request id of the kinds that have one.
type Topic struct {
	Kind Kind
	Node string
	ID   string
}

// NewTopics checks root and cluster. An empty root is DefaultRoot.
func NewTopics(root, cluster string) (Topics, error) {
	if root == "" {
		root = DefaultRoot
	}
	if err := api.ValidID("cluster", cluster); err != nil {
		return Topics{}, err
	}
	for _, level := range strings.Split(root, "/") {
		if level == "" || level[0] == '$' || strings.ContainsAny(level, "+#\x00") || len(level) > api.MaxIDLength {
			return Topics{}, fmt.Errorf("topic root %q: wanted levels of 1 to %d characters without +, # and a leading $", root, api.MaxIDLength)
		}
	}
	return Topics{Root: root, Cluster: cluster}, nil
}

// Of returns the topic of kind for node. id is read only by the kinds that have one.
func (t Topics) Of(kind Kind, node, id string) string {
	e, ok := EntryOf(kind)
	if !ok {
		return ""
	}
	return t.prefix(node) + strings.Replace(e.Suffix, "{id}", id, 1)
}

// Filter returns the subscription filter for kind of node; "+" stands for every node [MQTT-4.7.1-3].
func (t Topics) Filter(kind Kind, node string) string { return t.Of(kind, node, "+") }

// All is the filter for everything of the cluster, Node the one for everything of a node [MQTT-4.7.1-2].
func (t Topics) All() string { return t.Root + "/" + t.Cluster + "/#" }

// Node is the filter for everything of a node.
func (t Topics) Node(node string) string { return t.prefix(node) + "#" }

func (t Topics) prefix(node string) string { return t.Root + "/" + t.Cluster + "/" + node + "/" }

// Parse reads a topic name (no wildcards). Anything that the contract does not list is an error.
func (t Topics) Parse(topic string) (Topic, error) {
	rest, ok := strings.CutPrefix(topic, t.Root+"/"+t.Cluster+"/")
	if !ok {
		return Topic{}, fmt.Errorf("topic %.80q: wanted one under %s/%s/", topic, t.Root, t.Cluster)
	}
	node, suffix, ok := strings.Cut(rest, "/")
	if !ok {
		return Topic{}, fmt.Errorf("topic %.80q: wanted a message kind after the node", topic)
	}
	if err := api.ValidID("node", node); err != nil {
		return Topic{}, fmt.Errorf("topic %.80q: %w", topic, err)
	}
	kind, id, ok := parseSuffix(suffix)
	if !ok {
		return Topic{}, fmt.Errorf("topic %.80q: %q is no message of wire version 1", topic, suffix)
	}
	if id != "" {
		if err := api.ValidID("id", id); err != nil {
			return Topic{}, fmt.Errorf("topic %.80q: %w", topic, err)
		}
	}
	return Topic{Kind: kind, Node: node, ID: id}, nil
}

func parseSuffix(suffix string) (Kind, string, bool) {
	switch suffix {
	case "state":
		return KindState, "", true
	case "birth":
		return KindBirth, "", true
	case "tele":
		return KindTele, "", true
	case "event":
		return KindEvent, "", true
	case "reported":
		return KindReported, "", true
	case "desired":
		return KindDesired, "", true
	case "ack":
		return KindAck, "", true
	case "replica":
		return KindReplica, "", true
	case "admission":
		return KindAdmission, "", true
	}
	head, rest, _ := strings.Cut(suffix, "/")
	id, tail, _ := strings.Cut(rest, "/")
	if id == "" {
		return 0, "", false
	}
	switch head + "/" + tail {
	case "cmd/":
		return KindCmd, id, suffix == "cmd/"+id
	case "cmd/status":
		return KindCmdStatus, id, true
	case "stream/up":
		return KindStreamUp, id, true
	case "stream/down":
		return KindStreamDown, id, true
	case "request/":
		return KindRequest, id, suffix == "request/"+id
	case "request/status":
		return KindRequestStatus, id, true
	}
	return 0, "", false
}
