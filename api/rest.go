package api

// List is the body of every REST answer that lists. Continue, when it is there, asks for the page that follows.
type List[T any] struct {
	Items    []T    `json:"items"`
	Continue string `json:"continue,omitempty"`
}

// CommandRequest is the body of POST /v1/commands: one command to each of Nodes, or to every node that Selector matches
// (key=value,key2=value2; all must match). ID makes a retry safe: the same id and content to the same node is the same
// command; it needs exactly one node. Deadline is a duration such as 30s or an RFC 3339 instant.
type CommandRequest struct {
	ID       string         `json:"id,omitempty"`
	Nodes    []string       `json:"nodes,omitempty"`
	Selector string         `json:"selector,omitempty"`
	Verb     string         `json:"verb"`
	Args     map[string]any `json:"args,omitempty"`
	Deadline string         `json:"deadline"`
}

// TokenRequest is the body of POST /v1/tokens. MaxUses 0 does not limit; TTL is a duration.
type TokenRequest struct {
	TTL      string            `json:"ttl"`
	MaxUses  int               `json:"maxUses"`
	Approval bool              `json:"approval,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
}

// AccessRequest is the body of POST /v1/access-tokens. TTL is a duration, empty for a token that does not expire.
type AccessRequest struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	TTL  string `json:"ttl,omitempty"`
}

// OperatorRequest is the body of POST /v1/operators: a client certificate for a person or foreign system that speaks
// MQTT. CSR is PEM; its subject is ignored.
type OperatorRequest struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	CSR  string `json:"csr"`
	TTL  string `json:"ttl,omitempty"`
}

// Operator is a client certificate for a person or foreign system. PEM and CA are set in the answer to its creation.
type Operator struct {
	Name        string      `json:"name"`
	Role        Role        `json:"role"`
	Certificate Certificate `json:"certificate"`
	Revoked     bool        `json:"revoked"`
	PEM         string      `json:"pem,omitempty"`
	CA          string      `json:"ca,omitempty"`
}

// NodePatch is the body of PATCH /v1/nodes/{id}. A label with an empty value is removed; labels not named stay.
type NodePatch struct {
	Labels map[string]string `json:"labels"`
}

// ClusterStatus is what the cluster agent says of itself.
type ClusterStatus struct {
	Cluster  string           `json:"cluster"`
	Version  string           `json:"version"`
	Started  Millis           `json:"started"`
	Now      Millis           `json:"now"`
	Broker   string           `json:"broker"` // where the broker is, and whether it is up
	MQTT     []string         `json:"mqtt"`   // broker URLs as nodes get them
	Root     string           `json:"root"`   // topic root
	Nodes    map[Presence]int `json:"nodes"`
	Pending  int              `json:"pending"` // enrolments waiting for approval
	Open     int              `json:"open"`    // commands without a final state
	Samples  uint64           `json:"samples"` // stored since start
	Rejected uint64           `json:"rejected"`
	Trouble  []string         `json:"trouble,omitempty"` // what the agent cannot do, or soon cannot, why, and the cure
	Replica  string           `json:"replica,omitempty"` // which of several cluster agents answers
	Replicas []ReplicaStatus  `json:"replicas,omitempty"`
	Kube     *KubeStatus      `json:"kube,omitempty"` // in the modes kube and k3s
}

// KubeStatus is how the cluster agent stands to its Kubernetes API server. State is starting, leading, standing by or down;
// Leader who holds the lease; Since and Reason are set while it is down.
type KubeStatus struct {
	State   string         `json:"state"`
	Leader  string         `json:"leader,omitempty"`
	Since   Millis         `json:"since,omitempty"`
	Reason  string         `json:"reason,omitempty"`
	Kubelet *KubeletStatus `json:"kubelet,omitempty"` // with kube.virtual_nodes, while this cluster agent leads
}

// KubeletStatus is how the API server reaches the kubelet API of the devices: by Via, k3s (tunnel sessions) or direct, at Address.
type KubeletStatus struct {
	Via     string         `json:"via"`
	Address string         `json:"address"`
	Tunnel  []TunnelStatus `json:"tunnel,omitempty"`
}

// TunnelStatus is the tunnel session with one k3s server. Without one, that server answers 502 for every device.
type TunnelStatus struct {
	Server    string `json:"server"`
	Connected bool   `json:"connected"`
	Since     Millis `json:"since"`
	Reason    string `json:"reason,omitempty"`
}

// ReplicaStatus is one of several cluster agents on one broker, as the one that answers sees it. Nodes is how many it acts
// for.
type ReplicaStatus struct {
	Name  string       `json:"name"`
	State ReplicaState `json:"state"`
	URL   string       `json:"url,omitempty"`
	Nodes int          `json:"nodes"`
}

// Change is one item of GET /v1/watch. Kind is node, command or event; Type is added, modified or deleted; exactly one
// of the pointers is set.
type Change struct {
	Kind    string         `json:"kind"`
	Type    string         `json:"type"`
	Node    *Node          `json:"node,omitempty"`
	Command *CommandRecord `json:"command,omitempty"`
	Event   *EventRecord   `json:"event,omitempty"`
}

// RunEvent is one item of the answer to POST /v1/nodes/{id}/run: the command's record as it changes, the final one last,
// or a piece of what it prints: Data of Channel 1 (standard output) or 2 (standard error).
type RunEvent struct {
	Command *CommandRecord `json:"command,omitempty"`
	Channel uint8          `json:"channel,omitempty"`
	Data    []byte         `json:"data,omitempty"`
}

// Text is an answer that is a text: the configuration in force, or the end of a log.
type Text struct {
	Text string `json:"text"`
}
