package mqtt

import (
	"slices"

	"github.com/skerry-edge/skerry/api"
)

// Kind is one of the message kinds of wire version 1.
type Kind uint8

// The kinds, in the order of the contract.
const (
	KindState Kind = iota + 1
	KindBirth
	KindTele
	KindEvent
	KindReported
	KindDesired
	KindCmd
	KindCmdStatus
	KindAck
	KindStreamUp
	KindStreamDown
	KindRequest
	KindRequestStatus
	KindReplica
	KindAdmission
)

// lastKind is the last of the kinds.
const lastKind = KindAdmission

// Direction is who publishes a message.
type Direction uint8

// The directions.
const (
	Up    Direction = iota + 1 // the node publishes, the cluster agent (and viewers) subscribe
	Down                       // the cluster agent publishes, the node subscribes
	Ask                        // an operator publishes, the cluster agent subscribes
	Reply                      // the cluster agent publishes, operators subscribe
	Among                      // cluster agents that share a broker publish and subscribe
)

// Entry is one row of the contract.
type Entry struct {
	Kind     Kind
	Name     string    // of the message, as in AsyncAPI
	Suffix   string    // the topic under root/{cluster}/{node}/, parameters in braces
	Dir      Direction // who publishes
	Retain   bool      // the publisher sets RETAIN; every message is QoS 1
	Signed   bool      // travels as api.Signed around the message
	MaxBytes int       // of the payload
	Message  any       // a zero value of the Go type
	Help     string    // one sentence
}

// contract is the one table of wire version 1. It is read only: nearly every message asks it for something.
var contract = [lastKind]Entry{
	{KindState, "State", "state", Up, true, false, 4 << 10, api.State{},
		"Presence of the node; the last will of each session says lost with the epoch of that session."},
	{KindBirth, "Birth", "birth", Up, true, false, 64 << 10, api.Birth{},
		"Self-description of the node, on every connect."},
	{KindTele, "Batch", "tele", Up, false, false, api.MaxMessageBytes, api.Batch{},
		"A columnar batch of samples, kept by the node until an ack covers it."},
	{KindEvent, "Event", "event", Up, false, false, 16 << 10, api.Event{},
		"Something that happened on the node, kept by the node until an ack covers it."},
	{KindReported, "Reported", "reported", Up, true, false, 64 << 10, api.Reported{},
		"What the node made of the desired document."},
	{KindDesired, "Desired", "desired", Down, true, true, api.MaxMessageBytes, api.Desired{},
		"What the node should be; the newest generation is the whole truth."},
	{KindCmd, "Command", "cmd/{id}", Down, false, true, api.MaxMessageBytes, api.Command{},
		"One order to the node, with a deadline."},
	{KindCmdStatus, "Status", "cmd/{id}/status", Up, false, false, 64 << 10, api.Status{},
		"A transition of a command; a final one is sent again until an ack names it."},
	{KindAck, "Ack", "ack", Down, false, false, 32 << 10, api.Ack{},
		"What the cluster agent has stored for good; only now may the node forget it."},
	{KindStreamUp, "FrameUp", "stream/{id}/up", Up, false, false, api.MaxFrameBytes, api.Frame{},
		"A frame of a byte stream, from the node."},
	{KindStreamDown, "FrameDown", "stream/{id}/down", Down, false, false, api.MaxFrameBytes, api.Frame{},
		"A frame of a byte stream, to the node."},
	{KindRequest, "Request", "request/{id}", Ask, false, false, api.MaxMessageBytes, api.Request{},
		"An operator asks for a command; the cluster agent checks the role, journals, signs and forwards."},
	{KindRequestStatus, "RequestStatus", "request/{id}/status", Reply, false, false, 64 << 10, api.Status{},
		"Each transition of the command that a request became."},
	{KindReplica, "Replica", "replica", Among, true, true, 4 << 10, api.Replica{},
		"Presence of one of several cluster agents, under its own name in the place of the node's; the last will says lost."},
	{KindAdmission, "Admission", "admission", Among, true, true, 32 << 10, api.Admission{},
		"What every one of several cluster agents has to know of a node's enrolment."},
}

// Contract returns the one table of wire version 1. Nothing is published or accepted that is not in it.
func Contract() []Entry { return slices.Clone(contract[:]) }

// EntryOf returns the contract's row for kind, and whether there is one.
func EntryOf(kind Kind) (Entry, bool) {
	if kind == 0 || kind > lastKind {
		return Entry{}, false
	}
	return contract[kind-1], true
}

// QoS is the quality of service of every message: at least once. Duplicates are told by their numbers and ids, so the
// four-way handshake of QoS 2 would buy nothing.
const QoS = 1
