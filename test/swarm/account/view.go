package account

import (
	"context"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// View is a place where the outcome can be seen. What it shows is told by the interfaces that it also implements:
// CommandView, NodeView, SampleView.
type View interface {
	Name() string
}

// CommandView shows the lives of commands.
type CommandView interface {
	View
	// Commands returns what it shows of orders, by id. whole is false when it may lack some that exist, such as a
	// subscription that was interrupted: then what is absent proves nothing.
	Commands(ctx context.Context, orders []Order) (lives map[string]Life, whole bool, err error)
}

// NodeView shows nodes.
type NodeView interface {
	View
	Nodes(ctx context.Context) (map[string]Sight, error)
}

// SampleView shows samples.
type SampleView interface {
	View
	// Samples returns every sample of node from one instant to another.
	Samples(ctx context.Context, node string, from, to time.Time) ([]Sample, error)
}

// Life is the end, or the ends, of a command as a view shows them.
type Life struct {
	Finals []api.Phase // distinct final phases, in the word of the cluster agent
	Said   []api.Phase // the same in the word of the node, where the view shows it
	Due    bool        // the view ought to show an end: to show none is a fault
	Closed bool        // the cluster agent closed it by its clock
	Late   api.Phase   // what the node said after that, where the view shows it
	Reason string      // of the last end, where there is one
	// Unordered tells that the view knows of no command: what was asked for never came into the journal.
	Unordered bool
}

// Sight is a node as a view shows it.
type Sight struct {
	Presence api.Presence
	Desired  uint64 // generation that it should have
	Reported uint64 // generation that it says it has
}

// Sample is one value in a store. Series is -1 for a series that is none of ours.
type Sample struct {
	Series int
	At     int64 // milliseconds since 1970
	Value  float64
}

// Violation is a difference that nothing explains.
type Violation struct {
	Check  string `json:"check"`  // command, effect, telemetry, desired
	Object string `json:"object"` // a command's id or a node's
	Detail string `json:"detail"`
}
