package api

// Presence is what the cluster agent concludes about a node, from its own word, the broker's and the clock's.
type Presence string

// The presences. Only Lost ever permits giving a node's duties to another; Disconnected never does.
const (
	PresenceEnrolled     Presence = "enrolled"     // has a certificate, has never connected
	PresenceOnline       Presence = "online"       // connected, and says so
	PresenceSleeping     Presence = "sleeping"     // said that it would sleep, and its wake time has not passed
	PresenceDraining     Presence = "draining"     // connected, and on its way out
	PresenceOffline      Presence = "offline"      // said goodbye
	PresenceDisconnected Presence = "disconnected" // vanished without a goodbye, within its autonomy window
	PresenceLost         Presence = "lost"         // vanished for longer than its autonomy window
	PresenceElsewhere    Presence = "elsewhere"    // another replica of the cluster agent acts for it, and knows
)

// Node is a node as the cluster agent knows it. Reason says how Presence was concluded and Since when it began.
type Node struct {
	ID          string            `json:"id"`
	Cluster     string            `json:"cluster"`
	Presence    Presence          `json:"presence"`
	Reason      string            `json:"reason"`
	Since       Millis            `json:"since"`
	LastSeen    Millis            `json:"lastSeen,omitempty"`
	Enrolled    Millis            `json:"enrolled"`
	Epoch       uint64            `json:"epoch,omitempty"`
	Boot        string            `json:"boot,omitempty"`
	Restarts    uint64            `json:"restarts"` // of the agent, seen by a new epoch with a new start time
	Reboots     uint64            `json:"reboots"`  // of the machine, seen by a new boot id
	Labels      map[string]string `json:"labels,omitempty"`
	KeySHA256   string            `json:"keySha256"` // of the public key (SubjectPublicKeyInfo): the node's identity
	Certificate Certificate       `json:"certificate"`
	Birth       *Birth            `json:"birth,omitempty"`
	Reported    *Reported         `json:"reported,omitempty"`
	Desired     Revision          `json:"desired"`
	Wanted      *AgentWant        `json:"wanted,omitempty"` // the version that desired states for its agent; reported tells how that stands
	Owner       *Owner            `json:"owner,omitempty"`  // where several cluster agents share a broker

	// Rejected counts samples of good batches that were acknowledged and not stored, by reason (duplicate, too_old, future,
	// series_limit, other), since the cluster agent's start or the node's last long silence.
	Rejected map[string]uint64 `json:"rejected,omitempty"`
}

// Transition is one step of a command's life, and which side reported it.
type Transition struct {
	Phase  Phase  `json:"phase"`
	At     Millis `json:"at"`
	Side   string `json:"side"` // node or cluster
	Reason string `json:"reason,omitempty"`
}

// CommandRecord is a command and its life as the cluster agent journalled it.
type CommandRecord struct {
	ID       string         `json:"id"`
	Node     string         `json:"node"`
	Verb     string         `json:"verb"`
	Args     map[string]any `json:"args,omitempty"`
	By       string         `json:"by"`
	Created  Millis         `json:"created"`
	Deadline Millis         `json:"deadline"`
	Phase    Phase          `json:"phase"`
	Final    bool           `json:"final"`
	History  []Transition   `json:"history"`
	Status   *Status        `json:"status,omitempty"` // the last one that the node sent
}

// Token is a join token without its secret.
type Token struct {
	ID       string            `json:"id"`
	Created  Millis            `json:"created"`
	Expires  Millis            `json:"expires"`
	MaxUses  int               `json:"maxUses"` // 0: not limited
	Uses     int               `json:"uses"`
	Approval bool              `json:"approval"` // a person has to approve each device
	Revoked  bool              `json:"revoked"`
	By       string            `json:"by"`
	Labels   map[string]string `json:"labels,omitempty"` // given to every node that joins with it
	Join     string            `json:"join,omitempty"`   // the join string; in the answer to its creation only
}

// Enrollment is a device that waits for a person's approval. Rejoin is set when a node of that id exists with another
// key: approving replaces its key and revokes the old certificate.
type Enrollment struct {
	ID        string `json:"id"`
	Node      string `json:"node"`
	KeySHA256 string `json:"keySha256"`
	TokenID   string `json:"tokenId"`
	From      string `json:"from"` // remote address
	Requested Millis `json:"requested"`
	Rejoin    bool   `json:"rejoin"` // a node of this id is there, with another key
	// Presence is that of the node whose place this device would take, with Rejoin.
	Presence Presence `json:"presence,omitempty"`
	Host     Host     `json:"host"`
}

// EventRecord is an event as stored, of a node or, with an empty Node, of the cluster agent itself.
type EventRecord struct {
	ID      uint64            `json:"id"` // order of storage
	Node    string            `json:"node,omitempty"`
	At      Millis            `json:"at"`
	Class   Class             `json:"class"`
	Kind    string            `json:"kind"`
	Object  string            `json:"object,omitempty"`
	Message string            `json:"message"`
	Data    map[string]string `json:"data,omitempty"`
}

// AuditEntry is one write that somebody asked for, allowed or not.
type AuditEntry struct {
	ID     uint64 `json:"id"`
	At     Millis `json:"at"`
	By     string `json:"by"`
	Role   Role   `json:"role"`
	Via    string `json:"via"` // rest, mqtt, local
	From   string `json:"from,omitempty"`
	Action string `json:"action"` // command.create, token.revoke, node.remove, …
	Object string `json:"object"`
	Result string `json:"result"` // ok, or why not
}

// AccessToken is a bearer token of the REST API. Secret is set in the answer to its creation only.
type AccessToken struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Role    Role   `json:"role"`
	Created Millis `json:"created"`
	Expires Millis `json:"expires,omitempty"` // 0: never
	Secret  string `json:"secret,omitempty"`
}
