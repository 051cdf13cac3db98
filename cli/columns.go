package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

func (a *App) nodeColumns() []column[api.Node] {
	return []column[api.Node]{
		{"NODE", false, func(n api.Node) string { return clip(n.ID, 24) }},
		{"STATE", false, func(n api.Node) string { return string(n.Presence) }},
		{"FOR", false, func(n api.Node) string { return a.since(n.Since) }},
		{"SEEN", false, func(n api.Node) string { return a.since(n.LastSeen) }},
		{"ARCH", false, func(n api.Node) string { return birth(n).Host.Arch }},
		{"CERT", false, func(n api.Node) string { return a.until(n.Certificate.NotAfter) }},
		{"REASON", false, func(n api.Node) string { return clip(n.Reason, 22) }},
		{"VERSION", true, func(n api.Node) string { return birth(n).Version }},
		{"OS", true, func(n api.Node) string { return birth(n).Host.OS }},
		{"KERNEL", true, func(n api.Node) string { return birth(n).Host.Kernel }},
		{"CPUS", true, func(n api.Node) string { return fmt.Sprint(birth(n).Host.CPUs) }},
		{"MEMORY", true, func(n api.Node) string { return size(float64(birth(n).Host.MemoryBytes)) }},
		{"RESTARTS", true, func(n api.Node) string { return fmt.Sprint(n.Restarts) }},
		{"REBOOTS", true, func(n api.Node) string { return fmt.Sprint(n.Reboots) }},
		{"LABELS", true, func(n api.Node) string { return labels(n.Labels) }},
	}
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
		{"COMMAND", false, func(c api.CommandRecord) string { return c.ID }},
		{"NODE", false, func(c api.CommandRecord) string { return clip(c.Node, 24) }},
		{"VERB", false, func(c api.CommandRecord) string { return c.Verb }},
		{"PHASE", false, func(c api.CommandRecord) string { return string(c.Phase) }},
		{"AGE", false, func(c api.CommandRecord) string { return a.since(c.Created) }},
		{"BY", false, func(c api.CommandRecord) string { return clip(c.By, 16) }},
		{"REASON", false, func(c api.CommandRecord) string { return clip(lastReason(c), 30) }},
		{"DEADLINE", true, func(c api.CommandRecord) string { return clock(c.Deadline) }},
		{"ARGS", true, func(c api.CommandRecord) string { return compact(c.Args) }},
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
		{"AT", false, func(e api.EventRecord) string { return clock(e.At) }},
		{"NODE", false, func(e api.EventRecord) string { return clip(e.Node, 20) }},
		{"CLASS", false, func(e api.EventRecord) string { return string(e.Class) }},
		{"KIND", false, func(e api.EventRecord) string { return clip(e.Kind, 20) }},
		{"OBJECT", false, func(e api.EventRecord) string { return clip(e.Object, 14) }},
		{"MESSAGE", false, func(e api.EventRecord) string { return e.Message }},
		{"ID", true, eventName},
		{"DATA", true, func(e api.EventRecord) string { return labels(e.Data) }},
	}
}

func (a *App) tokenColumns() []column[api.Token] {
	return []column[api.Token]{
		{"TOKEN", false, func(t api.Token) string { return t.ID }},
		{"EXPIRES", false, func(t api.Token) string { return a.until(t.Expires) }},
		{"USES", false, tokenUses},
		{"APPROVAL", false, func(t api.Token) string { return fmt.Sprint(t.Approval) }},
		{"REVOKED", false, func(t api.Token) string { return fmt.Sprint(t.Revoked) }},
		{"BY", false, func(t api.Token) string { return t.By }},
		{"LABELS", false, func(t api.Token) string { return clip(labels(t.Labels), 30) }},
		{"CREATED", true, func(t api.Token) string { return clock(t.Created) }},
	}
}

func tokenUses(t api.Token) string {
	if t.MaxUses == 0 {
		return fmt.Sprintf("%d of any", t.Uses)
	}
	return fmt.Sprintf("%d of %d", t.Uses, t.MaxUses)
}

func (a *App) enrollmentColumns() []column[api.Enrollment] {
	return []column[api.Enrollment]{
		{"ENROLLMENT", false, func(e api.Enrollment) string { return e.ID }},
		{"NODE", false, func(e api.Enrollment) string { return clip(e.Node, 24) }},
		{"AGE", false, func(e api.Enrollment) string { return a.since(e.Requested) }},
		{"REJOIN", false, func(e api.Enrollment) string { return fmt.Sprint(e.Rejoin) }},
		{"FROM", false, func(e api.Enrollment) string { return e.From }},
		{"KEY", false, func(e api.Enrollment) string { return clip(e.KeySHA256, 16) }},
		{"HOST", true, func(e api.Enrollment) string { return e.Host.Hostname + " " + e.Host.OS }},
		{"TOKEN", true, func(e api.Enrollment) string { return e.TokenID }},
	}
}

func (a *App) operatorColumns() []column[api.Operator] {
	return []column[api.Operator]{
		{"OPERATOR", false, func(o api.Operator) string { return o.Name }},
		{"ROLE", false, func(o api.Operator) string { return string(o.Role) }},
		{"CERT", false, func(o api.Operator) string { return a.until(o.Certificate.NotAfter) }},
		{"REVOKED", false, func(o api.Operator) string { return fmt.Sprint(o.Revoked) }},
		{"SHA256", true, func(o api.Operator) string { return o.Certificate.SHA256 }},
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
		{"ID", false, func(t api.AccessToken) string { return t.ID }},
		{"NAME", false, func(t api.AccessToken) string { return t.Name }},
		{"ROLE", false, func(t api.AccessToken) string { return string(t.Role) }},
		{"EXPIRES", false, func(t api.AccessToken) string { return a.until(t.Expires) }},
		{"CREATED", false, func(t api.AccessToken) string { return clock(t.Created) }},
	}
}

func (a *App) auditColumns() []column[api.AuditEntry] {
	return []column[api.AuditEntry]{
		{"AT", false, func(e api.AuditEntry) string { return clock(e.At) }},
		{"BY", false, func(e api.AuditEntry) string { return clip(e.By, 16) }},
		{"VIA", false, func(e api.AuditEntry) string { return e.Via }},
		{"ACTION", false, func(e api.AuditEntry) string { return e.Action }},
		{"OBJECT", false, func(e api.AuditEntry) string { return clip(e.Object, 26) }},
		{"RESULT", false, func(e api.AuditEntry) string { return e.Result }},
		{"ROLE", true, func(e api.AuditEntry) string { return string(e.Role) }},
		{"FROM", true, func(e api.AuditEntry) string { return e.From }},
	}
}
