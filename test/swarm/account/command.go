package account

import (
	"slices"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Order is a command that was asked for. Answered tells that the cluster agent said that it has it; without that it may
// have it all the same.
type Order struct {
	ID, Node, Verb string
	Via            string // rest, mqtt
	At, Deadline   time.Time
	Answered       bool
}

// Command is the truth about a command on its node.
type Command struct {
	Node, Verb string
	Arrivals   int         // deliveries
	Effects    int         // times that the verb did what it does
	Finals     []api.Phase // distinct final phases that the node sent
}

// Commands is the log of all commands on all nodes. Safe for concurrent use.
type Commands struct {
	mu   sync.Mutex
	byID map[string]*Command
}

func (c *Commands) of(id string) *Command {
	if c.byID == nil {
		c.byID = map[string]*Command{}
	}
	if c.byID[id] == nil {
		c.byID[id] = &Command{}
	}
	return c.byID[id]
}

// Arrived notes that node was given a command.
func (c *Commands) Arrived(node, id, verb string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cmd := c.of(id)
	cmd.Node, cmd.Verb = node, verb
	cmd.Arrivals++
}

// Effect notes that a verb did what it does.
func (c *Commands) Effect(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(id).Effects++
}

// Ended notes a final phase, as often as it is sent.
func (c *Commands) Ended(id string, phase api.Phase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cmd := c.of(id); !slices.Contains(cmd.Finals, phase) {
		cmd.Finals = append(cmd.Finals, phase)
	}
}

// Count tells how many commands arrived, and how many side effects they had.
func (c *Commands) Count() (commands, effects int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cmd := range c.byID {
		effects += cmd.Effects
	}
	return len(c.byID), effects
}

// All returns a copy.
func (c *Commands) All() map[string]Command {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]Command, len(c.byID))
	for id, cmd := range c.byID {
		cp := *cmd
		cp.Finals = slices.Clone(cmd.Finals)
		out[id] = cp
	}
	return out
}
