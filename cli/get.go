package cli

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/api"
)

// getFlags are those of `get`.
type getFlags struct {
	format   string
	watch    bool
	selector string
	node     string
	open     bool
	limit    int
}

func (a *App) getCommand() *cobra.Command {
	f := &getFlags{}
	cmd := &cobra.Command{
		Use:   "get nodes|commands|tokens|events|enrollments|operators|access|audit [NAME]",
		Short: "List what the cluster agent knows",
		Example: `  skerry get nodes -l site=harbour -w
  skerry get commands --node pump-3 --open
  skerry get events -o json`,
		Args:      cobra.RangeArgs(1, 2),
		ValidArgs: []string{"nodes", "commands", "tokens", "events", "enrollments", "operators", "access", "audit"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(f.format); err != nil {
				return err
			}
			name := ""
			if len(args) == 2 {
				name = args[1]
			}
			return a.get(cmd.Context(), args[0], name, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.format, "output", "o", "table", "table, wide, json, yaml or name")
	flags.BoolVarP(&f.watch, "watch", "w", false, "after listing, print changes as they happen (nodes, commands, events)")
	flags.StringVarP(&f.selector, "selector", "l", "", "only nodes with these labels: key=value,key2=value2")
	flags.StringVar(&f.node, "node", "", "only what concerns this node (commands, events)")
	flags.BoolVar(&f.open, "open", false, "only commands without a final state")
	flags.IntVar(&f.limit, "limit", 0, "at most so many, the newest (0: the server's default)")
	return cmd
}

func (a *App) get(ctx context.Context, kind, name string, f *getFlags) error {
	c, _, err := a.client()
	if err != nil {
		return err
	}
	q := f.query()
	switch strings.TrimSuffix(kind, "s") {
	case "node":
		return getAndWatch(ctx, c, a, listing[api.Node]{"/v1/nodes", name, q, nodeName, a.nodeColumns(),
			func(ch *api.Change) *api.Node { return ch.Node }}, f)
	case "command":
		return getAndWatch(ctx, c, a, listing[api.CommandRecord]{"/v1/commands", name, q, commandName, a.commandColumns(),
			func(ch *api.Change) *api.CommandRecord { return ch.Command }}, f)
	case "event":
		return getAndWatch(ctx, c, a, listing[api.EventRecord]{"/v1/events", name, q, eventName, a.eventColumns(),
			func(ch *api.Change) *api.EventRecord { return ch.Event }}, f)
	case "token":
		return getAndWatch(ctx, c, a, listing[api.Token]{"/v1/tokens", name, q, tokenName, a.tokenColumns(), nil}, f)
	case "enrollment":
		return getAndWatch(ctx, c, a, listing[api.Enrollment]{"/v1/enrollments", name, q, enrollmentName, a.enrollmentColumns(), nil}, f)
	case "operator":
		return getAndWatch(ctx, c, a, listing[api.Operator]{"/v1/operators", name, q, operatorName, a.operatorColumns(), nil}, f)
	case "access":
		return getAndWatch(ctx, c, a, listing[api.AccessToken]{"/v1/access-tokens", name, q, accessName, a.accessColumns(), nil}, f)
	case "audit":
		return getAndWatch(ctx, c, a, listing[api.AuditEntry]{"/v1/audit", name, q, auditName, a.auditColumns(), nil}, f)
	}
	return usage(fmt.Errorf("get %q: wanted nodes, commands, tokens, events, enrollments, operators, access or audit", kind))
}

func (f *getFlags) query() url.Values {
	q := url.Values{}
	if f.selector != "" {
		q.Set("selector", f.selector)
	}
	if f.node != "" {
		q.Set("node", f.node)
	}
	if f.open {
		q.Set("open", "true")
	}
	if f.limit > 0 {
		q.Set("limit", fmt.Sprint(f.limit))
	}
	return q
}

// listing is one kind that `get` lists. changed takes the item out of a watch's change; nil when it cannot be watched.
type listing[T any] struct {
	path    string
	name    string // only this one
	query   url.Values
	nameOf  func(T) string
	columns []column[T]
	changed func(*api.Change) *T
}

func getAndWatch[T any](ctx context.Context, c *Client, a *App, l listing[T], f *getFlags) error {
	if f.watch && l.changed == nil {
		return usage(fmt.Errorf("%s cannot be watched; nodes, commands and events can", strings.TrimPrefix(l.path, "/v1/")))
	}
	short, cancel := within(ctx)
	defer cancel()
	var list api.List[T]
	if err := c.Get(short, l.path+"?"+l.query.Encode(), &list); err != nil {
		return err
	}
	if l.name != "" {
		list.Items = slices.DeleteFunc(list.Items, func(it T) bool { return l.nameOf(it) != l.name })
		if len(list.Items) == 0 && !f.watch {
			return fail(ExitNotFound, "no %s in %s", l.name, strings.TrimPrefix(l.path, "/v1/"))
		}
	}
	if err := show(a.Out, f.format, list.Items, l.nameOf, l.columns); err != nil || !f.watch {
		return err
	}
	kind := strings.TrimSuffix(strings.TrimPrefix(l.path, "/v1/"), "s")
	l.query.Set("kind", kind)
	return c.Watch(ctx, l.query, func(ch *api.Change) error {
		it := l.changed(ch)
		if it == nil || l.name != "" && l.nameOf(*it) != l.name {
			return nil
		}
		if f.format == "json" {
			return writeJSON(a.Out, ch)
		}
		return showRow(a, f.format, ch.Type, *it, l)
	})
}

// showRow prints one changed item without the heading.
func showRow[T any](a *App, format, change string, it T, l listing[T]) error {
	if format == "yaml" {
		if err := writeYAML(a.Out, it); err != nil {
			return err
		}
		_, err := fmt.Fprintln(a.Out, "---")
		return err
	}
	if format == "name" {
		_, err := fmt.Fprintln(a.Out, l.nameOf(it))
		return err
	}
	t := &table{}
	var cells []string
	for _, col := range l.columns {
		if !col.wide || format == "wide" {
			cells = append(cells, col.cell(it))
		}
	}
	if change == "deleted" {
		cells = append(cells, "(deleted)")
	}
	t.add(cells...)
	return t.write(a.Out)
}

func nodeName(n api.Node) string             { return n.ID }
func commandName(c api.CommandRecord) string { return c.ID }
func eventName(e api.EventRecord) string     { return fmt.Sprint(e.ID) }
func tokenName(t api.Token) string           { return t.ID }
func enrollmentName(e api.Enrollment) string { return e.ID }
func operatorName(o api.Operator) string     { return o.Name }
func accessName(t api.AccessToken) string    { return t.ID }
func auditName(e api.AuditEntry) string      { return fmt.Sprint(e.ID) }

func (a *App) since(m api.Millis) string { return age(a.Now(), m) }

// until writes how far away m is.
func (a *App) until(m api.Millis) string {
	if m == 0 {
		return "never"
	}
	if left := m.Time().Sub(a.Now()); left > 0 {
		return "in " + span(left)
	}
	return "expired"
}

func clock(m api.Millis) string {
	if m == 0 {
		return "-"
	}
	return m.Time().Local().Format(time.DateTime)
}
