package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/api"
)

// kind is a row of the one table of what `get` lists: its names, its filters and how to get it.
type kind struct {
	plural, singular string
	also             string   // another name; may be empty
	filters          []string // flags of `get` that it takes
	watched          bool
	get              func(ctx context.Context, c *Client, name string, f *getFlags) error
	names            func(ctx context.Context, c *Client) ([]string, error)
}

// resource is what the table's rows are made of.
type resource[T any] struct {
	path    string
	each    bool // PATH/NAME gives one of them
	nameOf  func(T) string
	columns []column[T]
	changed func(*api.Change) *T // takes the item out of a watch's change; nil when it cannot be watched
}

// kinds is the table; help, completion, documentation and tests read it too.
func (a *App) kinds() []kind {
	return []kind{
		kindOf(a, kind{plural: "nodes", singular: "node", filters: []string{"selector"}},
			resource[api.Node]{"/v1/nodes", true, nodeName, a.nodeColumns(), func(ch *api.Change) *api.Node { return ch.Node }}),
		kindOf(a, kind{plural: "commands", singular: "command", filters: []string{"node", "open", "limit"}},
			resource[api.CommandRecord]{"/v1/commands", true, commandName, a.commandColumns(),
				func(ch *api.Change) *api.CommandRecord { return ch.Command }}),
		kindOf(a, kind{plural: "events", singular: "event", filters: []string{"node", "limit"}},
			resource[api.EventRecord]{"/v1/events", false, eventName, a.eventColumns(),
				func(ch *api.Change) *api.EventRecord { return ch.Event }}),
		kindOf(a, kind{plural: "tokens", singular: "token"},
			resource[api.Token]{"/v1/tokens", false, tokenName, a.tokenColumns(), nil}),
		kindOf(a, kind{plural: "enrollments", singular: "enrollment"},
			resource[api.Enrollment]{"/v1/enrollments", false, enrollmentName, a.enrollmentColumns(), nil}),
		kindOf(a, kind{plural: "operators", singular: "operator"},
			resource[api.Operator]{"/v1/operators", false, operatorName, a.operatorColumns(), nil}),
		kindOf(a, kind{plural: "access", singular: "access-token", also: "access-tokens"},
			resource[api.AccessToken]{"/v1/access-tokens", false, accessName, a.accessColumns(), nil}),
		kindOf(a, kind{plural: "images", singular: "image"},
			resource[api.Image]{"/v1/images", false, imageName, a.imageColumns(), nil}),
		kindOf(a, kind{plural: "releases", singular: "release"},
			resource[api.Release]{"/v1/releases", false, releaseName, a.releaseColumns(), nil}),
		kindOf(a, kind{plural: "rollouts", singular: "rollout"},
			resource[api.Rollout]{"/v1/rollouts", true, rolloutName, a.rolloutColumns(), nil}),
		kindOf(a, kind{plural: "audit", singular: "audit-entry", also: "audit-entries", filters: []string{"limit"}},
			resource[api.AuditEntry]{"/v1/audit", false, auditName, a.auditColumns(), nil}),
	}
}

func kindOf[T any](a *App, k kind, r resource[T]) kind {
	k.watched = r.changed != nil
	k.get = func(ctx context.Context, c *Client, name string, f *getFlags) error {
		return getAndWatch(ctx, c, a, &listing[T]{kind: k, resource: r, name: name, query: f.query(), format: f.format, watch: f.watch})
	}
	k.names = func(ctx context.Context, c *Client) ([]string, error) {
		var list api.List[T]
		err := c.Get(ctx, r.path, &list)
		var names []string
		for _, it := range list.Items {
			names = append(names, r.nameOf(it))
		}
		return names, err
	}
	return k
}

// kind finds one by any of its names.
func (a *App) kind(name string) (kind, error) {
	var known []string
	for _, k := range a.kinds() {
		if name == k.plural || name == k.singular || k.also != "" && name == k.also {
			return k, nil
		}
		known = append(known, k.plural)
	}
	return kind{}, usage(fmt.Errorf("get %q: wanted one of %s", name, strings.Join(known, ", ")))
}

// plurals are what ValidArgs and the help list; singulars is what else is taken.
func (a *App) plurals() (plurals, singulars []string) {
	for _, k := range a.kinds() {
		plurals, singulars = append(plurals, k.plural), append(singulars, k.singular)
		if k.also != "" {
			singulars = append(singulars, k.also)
		}
	}
	return plurals, singulars
}

// check refuses a filter that would do nothing: its user would take the answer for filtered.
func (k *kind) check(set func(flag string) bool, watch bool) error {
	for _, flag := range []string{"selector", "node", "open", "limit"} {
		if set(flag) && !slices.Contains(k.filters, flag) {
			return usage(fmt.Errorf("--%s says nothing about %s", flag, k.plural))
		}
	}
	if watch && !k.watched {
		return usage(errors.New(k.plural + " cannot be watched; nodes, commands and events can"))
	}
	return nil
}

// pathOf is where one item is.
func (r *resource[T]) pathOf(name string) string { return r.path + "/" + url.PathEscape(name) }
