package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

func (a *App) nodeColumns() []column[api.Node] {
	return []column[api.Node]{
		{"NODE", always, func(n api.Node) string { return n.ID }},
		{"STATE", always, func(n api.Node) string { return string(n.Presence) }},
		{"FOR", moving, func(n api.Node) string { return a.since(n.Since) }},
		{"SEEN", moving, func(n api.Node) string { return a.since(n.LastSeen) }},
		{"ARCH", always, func(n api.Node) string { return birth(n).Host.Arch }},
		{"CERT", moving, func(n api.Node) string { return a.until(n.Certificate.NotAfter) }},
		{"REASON", always, func(n api.Node) string { return n.Reason }},
		{"VERSION", wide, func(n api.Node) string { return birth(n).Version }},
		{"OS", wide, func(n api.Node) string { return birth(n).Host.OS }},
		{"KERNEL", wide, func(n api.Node) string { return birth(n).Host.Kernel }},
		{"CPUS", wide, func(n api.Node) string { return fmt.Sprint(birth(n).Host.CPUs) }},
		{"MEMORY", wide, func(n api.Node) string { return agent.Size(float64(birth(n).Host.MemoryBytes)) }},
		{"RESTARTS", wide, func(n api.Node) string { return fmt.Sprint(n.Restarts) }},
		{"REBOOTS", wide, func(n api.Node) string { return fmt.Sprint(n.Reboots) }},
		{"LABELS", wide, func(n api.Node) string { return labels(n.Labels) }},
		{"OWNER", wide, owner},
	}
}

// owner is which of several cluster agents acts for a node.
func owner(n api.Node) string {
	if n.Owner == nil {
		return ""
	}
	return n.Owner.Replica
}

// birth is what the node said of itself, or nothing.
func birth(n api.Node) api.Birth {
	if n.Birth == nil {
		return api.Birth{}
	}
	return *n.Birth
}

func labels(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ",")
}

func (a *App) commandColumns() []column[api.CommandRecord] {
	return []column[api.CommandRecord]{
		{"COMMAND", always, func(c api.CommandRecord) string { return c.ID }},
		{"NODE", always, func(c api.CommandRecord) string { return c.Node }},
		{"VERB", always, func(c api.CommandRecord) string { return c.Verb }},
		{"PHASE", always, func(c api.CommandRecord) string { return string(c.Phase) }},
		{"AGE", moving, func(c api.CommandRecord) string { return a.since(c.Created) }},
		{"BY", always, func(c api.CommandRecord) string { return c.By }},
		{"REASON", always, func(c api.CommandRecord) string { return lastReason(c) }},
		{"DEADLINE", wide, func(c api.CommandRecord) string { return clock(c.Deadline) }},
		{"ARGS", wide, func(c api.CommandRecord) string { return compact(c.Args) }},
	}
}

func lastReason(c api.CommandRecord) string {
	if c.Status != nil && c.Status.Reason != "" && c.Status.Phase == c.Phase {
		return c.Status.Reason
	}
	if n := len(c.History); n > 0 {
		return c.History[n-1].Reason
	}
	return ""
}

func (a *App) eventColumns() []column[api.EventRecord] {
	return []column[api.EventRecord]{
		{"AT", always, func(e api.EventRecord) string { return clock(e.At) }},
		{"NODE", always, func(e api.EventRecord) string { return e.Node }},
		{"CLASS", always, func(e api.EventRecord) string { return string(e.Class) }},
		{"KIND", always, func(e api.EventRecord) string { return e.Kind }},
		{"OBJECT", always, func(e api.EventRecord) string { return e.Object }},
		{"MESSAGE", always, func(e api.EventRecord) string { return e.Message }},
		{"ID", wide, eventName},
		{"DATA", wide, func(e api.EventRecord) string { return labels(e.Data) }},
	}
}

func (a *App) tokenColumns() []column[api.Token] {
	return []column[api.Token]{
		{"TOKEN", always, func(t api.Token) string { return t.ID }},
		{"EXPIRES", moving, func(t api.Token) string { return a.until(t.Expires) }},
		{"USES", always, tokenUses},
		{"APPROVAL", always, func(t api.Token) string { return fmt.Sprint(t.Approval) }},
		{"REVOKED", always, func(t api.Token) string { return fmt.Sprint(t.Revoked) }},
		{"BY", always, func(t api.Token) string { return t.By }},
		{"LABELS", always, func(t api.Token) string { return labels(t.Labels) }},
		{"CREATED", wide, func(t api.Token) string { return clock(t.Created) }},
	}
}

func tokenUses(t api.Token) string {
	if t.MaxUses == 0 {
		return fmt.Sprintf("%d of any", t.Uses)
	}
	return fmt.Sprintf("%d of %d", t.Uses, t.MaxUses)
}

// rejoin tells of a device that asks for the id of a node how that node is.
func rejoin(e api.Enrollment) string {
	if e.Presence == "" {
		return fmt.Sprint(e.Rejoin)
	}
	return fmt.Sprintf("%t: %s is %s", e.Rejoin, e.Node, e.Presence)
}

func (a *App) enrollmentColumns() []column[api.Enrollment] {
	return []column[api.Enrollment]{
		{"ENROLLMENT", always, func(e api.Enrollment) string { return e.ID }},
		{"NODE", always, func(e api.Enrollment) string { return e.Node }},
		{"AGE", moving, func(e api.Enrollment) string { return a.since(e.Requested) }},
		{"REJOIN", always, rejoin},
		{"FROM", always, func(e api.Enrollment) string { return e.From }},
		{"KEY", always, func(e api.Enrollment) string { return e.KeySHA256 }},
		{"HOST", wide, func(e api.Enrollment) string { return e.Host.Hostname + " " + e.Host.OS }},
		{"TOKEN", wide, func(e api.Enrollment) string { return e.TokenID }},
	}
}

func (a *App) operatorColumns() []column[api.Operator] {
	return []column[api.Operator]{
		{"OPERATOR", always, func(o api.Operator) string { return o.Name }},
		{"ROLE", always, func(o api.Operator) string { return string(o.Role) }},
		{"CERT", moving, func(o api.Operator) string { return a.until(o.Certificate.NotAfter) }},
		{"REVOKED", always, func(o api.Operator) string { return fmt.Sprint(o.Revoked) }},
		{"SHA256", wide, func(o api.Operator) string { return o.Certificate.SHA256 }},
	}
}

// compact writes arguments as one line of JSON; nothing for none.
func compact(args map[string]any) string {
	if len(args) == 0 {
		return ""
	}
	raw, err := json.Marshal(args)
	if err != nil {
		return "?"
	}
	return string(raw)
}

func (a *App) accessColumns() []column[api.AccessToken] {
	return []column[api.AccessToken]{
		{"ID", always, func(t api.AccessToken) string { return t.ID }},
		{"NAME", always, func(t api.AccessToken) string { return t.Name }},
		{"ROLE", always, func(t api.AccessToken) string { return string(t.Role) }},
		{"EXPIRES", moving, func(t api.AccessToken) string { return a.until(t.Expires) }},
		{"CREATED", always, func(t api.AccessToken) string { return clock(t.Created) }},
	}
}

func (a *App) auditColumns() []column[api.AuditEntry] {
	return []column[api.AuditEntry]{
		{"AT", always, func(e api.AuditEntry) string { return clock(e.At) }},
		{"BY", always, func(e api.AuditEntry) string { return e.By }},
		{"VIA", always, func(e api.AuditEntry) string { return e.Via }},
		{"ACTION", always, func(e api.AuditEntry) string { return e.Action }},
		{"OBJECT", always, func(e api.AuditEntry) string { return e.Object }},
		{"RESULT", always, func(e api.AuditEntry) string { return e.Result }},
		{"ROLE", wide, func(e api.AuditEntry) string { return string(e.Role) }},
		{"FROM", wide, func(e api.AuditEntry) string { return e.From }},
	}
}
