package cli

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/agent"
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
	plurals, singulars := a.plurals()
	cmd := &cobra.Command{
		Use:   "get " + strings.Join(plurals, "|") + " [NAME]",
		Short: "List what the cluster agent knows",
		Long: `List what the cluster agent knows. Singular names do as well: ` + strings.Join(singulars, ", ") + `.

-o json and -o yaml give the one object when NAME is given, and otherwise a list {"items":[…]}. With -w they give one
object at a time (-o json: one a line), each with the field "change": added, modified or deleted. Instants are
milliseconds since 1970. Tables take at most 100 columns, and cut what does not fit; -o wide cuts nothing.`,
		Example: `  skerry get nodes -l site=harbour -w
  skerry get node pump-3 -o json
  skerry get commands --node pump-3 --open
  skerry get events -w -o json`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeGet,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(f.format); err != nil {
				return err
			}
			k, err := a.kind(args[0])
			if err == nil {
				err = k.check(cmd.Flags().Changed, f.watch)
			}
			if err != nil {
				return err
			}
			return a.get(cmd.Context(), k, strings.Join(args[1:], ""), f)
		},
	}
	flags := cmd.Flags()
	a.formatFlag(cmd, &f.format)
	flags.BoolVarP(&f.watch, "watch", "w", false, "after listing, print changes as they happen (nodes, commands, events)")
	flags.StringVarP(&f.selector, "selector", "l", "", "only nodes with these labels: key=value,key2=value2")
	flags.StringVar(&f.node, "node", "", "only what concerns this node (commands, events)")
	flags.BoolVar(&f.open, "open", false, "only commands without a final state")
	flags.IntVar(&f.limit, "limit", 0, "at most so many, the newest (commands, events, audit; 0: the server's default)")
	a.completeFlag(cmd, "node", "nodes")
	return cmd
}

func (a *App) get(ctx context.Context, k kind, name string, f *getFlags) error {
	c, _, err := a.client()
	if err != nil {
		return err
	}
	return k.get(ctx, c, name, f)
}

// listCommand is `GROUP list`: the same as `get`.
func (a *App) listCommand(plural, short string) *cobra.Command {
	f := &getFlags{}
	cmd := &cobra.Command{Use: "list", Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(f.format); err != nil {
				return err
			}
			k, err := a.kind(plural)
			if err != nil {
				return err
			}
			return a.get(cmd.Context(), k, "", f)
		}}
	a.formatFlag(cmd, &f.format)
	return cmd
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

// listing is one call of `get`.
type listing[T any] struct {
	kind     kind
	resource resource[T]
	name     string // only this one
	query    url.Values
	format   string
	watch    bool
}

// list asks for what is there.
func (l *listing[T]) list(ctx context.Context, c *Client) ([]T, error) {
	if l.name != "" && l.resource.each && !l.watch {
		var one T
		err := c.Get(ctx, l.resource.pathOf(l.name), &one)
		return []T{one}, err
	}
	var list api.List[T]
	if err := c.Get(ctx, l.resource.path+"?"+l.query.Encode(), &list); err != nil {
		return nil, err
	}
	if l.name != "" {
		list.Items = slices.DeleteFunc(list.Items, func(it T) bool { return l.resource.nameOf(it) != l.name })
		if len(list.Items) == 0 && !l.watch {
			return nil, fail(ExitNotFound, "no %s %q; skerry get %s lists them", l.kind.singular, l.name, l.kind.plural)
		}
	}
	return list.Items, nil
}

func getAndWatch[T any](ctx context.Context, c *Client, a *App, l *listing[T]) error {
	short, cancel := a.within(ctx)
	items, err := l.list(short, c)
	cancel()
	if err != nil {
		return err
	}
	if l.watch {
		return l.follow(ctx, c, a, items)
	}
	if l.name != "" {
		return showOne(a.Out, l.format, items[0], l.resource.nameOf, l.resource.columns)
	}
	return show(a.Out, l.format, items, l.resource.nameOf, l.resource.columns)
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
		return "in " + agent.Span(left)
	}
	return "expired"
}

func clock(m api.Millis) string {
	if m == 0 {
		return "-"
	}
	return m.Time().Local().Format(time.DateTime)
}

// instantOf is clock with milliseconds, for what happens within a second.
func instantOf(m api.Millis) string {
	if m == 0 {
		return "-"
	}
	return m.Time().Local().Format("2006-01-02 15:04:05.000")
}
