package cli

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
)

func (a *App) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Make, list and revoke join tokens"}
	cmd.AddCommand(a.tokenCreate(), a.listCommand("tokens", "List join tokens"), a.tokenRevoke())
	return cmd
}

// joinHelp keeps the join string out of arguments: a shell has them in its history, and others see them in the list of
// processes.
const joinHelp = `token %s, %s, expires %s; on a new device, with the join string in the file edge.join (0600) and your release server:
  curl -fsSL https://SERVER/install.sh | sudo SKERRY_URL=https://SERVER SKERRY_JOIN_FILE=edge.join sh
by hand, without a service, pasting the join string:
  read -r SKERRY_EDGE_JOIN && export SKERRY_EDGE_JOIN
  skerry-edge run
`

func (a *App) tokenCreate() *cobra.Command {
	var ttl time.Duration
	var uses int
	var approval bool
	var pairs map[string]string
	var format string
	cmd := &cobra.Command{
		Use: "create", Short: "Make a join token and print its join string (shown only once)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := positive("ttl", ttl); err != nil {
				return err
			}
			ctx, cancel := a.within(cmd.Context())
			defer cancel()
			c, _, err := a.client()
			if err != nil {
				return err
			}
			var t api.Token
			body := api.TokenRequest{TTL: ttl.String(), MaxUses: uses, Approval: approval, Labels: pairs}
			if err := c.Post(ctx, "/v1/tokens", body, &t); err != nil {
				return err
			}
			if format == "json" {
				return writeJSON(a.Out, t)
			}
			if format == "name" {
				_, err := fmt.Fprintln(a.Out, t.ID)
				return err
			}
			if _, err := fmt.Fprintf(a.Err, joinHelp, t.ID, tokenUses(t), clock(t.Expires)); err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Out, t.Join)
			return err
		},
	}
	ttl = time.Hour
	cmd.Flags().Var((*configs.Duration)(&ttl), "ttl", "how long it may be used")
	cmd.Flags().IntVar(&uses, "uses", 1, "how many devices may use it (0: any number)")
	cmd.Flags().BoolVar(&approval, "approval", false, "a person has to approve each device (skerry approve)")
	cmd.Flags().StringToStringVar(&pairs, "label", nil, "label for every node that joins with it: key=value")
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table (the join string), name (the id) or json")
	return cmd
}

func (a *App) tokenRevoke() *cobra.Command {
	cmd := a.deletion("revoke TOKEN", "Revoke a join token; nodes that joined with it stay", "/v1/tokens/", "revoked")
	cmd.ValidArgsFunction = a.complete("tokens", 1)
	return cmd
}

// deletion is a command that deletes what its one argument names.
func (a *App) deletion(use, short, path, done string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := a.within(cmd.Context())
			defer cancel()
			c, _, err := a.client()
			if err != nil {
				return err
			}
			target := path + url.PathEscape(args[0])
			if f := cmd.Flags().Lookup("force"); f != nil && f.Value.String() == "true" { // where there is such a flag
				target += "?force=true"
			}
			if err := c.Delete(ctx, target); err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Out, args[0], done)
			return err
		}}
}

func (a *App) approveCommand() *cobra.Command {
	var deny, yes bool
	cmd := &cobra.Command{
		Use: "approve ENROLLMENT", Short: "Let a waiting device in (skerry get enrollments lists them)",
		Long: `Let a waiting device in (skerry get enrollments lists them).

One that takes the place of a node that is online, and so throws a working device out, is asked about first; --yes answers.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete("enrollments", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := a.within(cmd.Context())
			defer cancel()
			c, _, err := a.client()
			if err != nil {
				return err
			}
			path := "/v1/enrollments/" + url.PathEscape(args[0])
			if deny {
				if err := c.Delete(ctx, path); err != nil {
					return err
				}
				_, err = fmt.Fprintln(a.Out, args[0], "denied")
				return err
			}
			if !yes {
				if err := a.spare(ctx, c, args[0]); err != nil {
					return err
				}
			}
			var e api.Enrollment
			if err := c.Post(ctx, path+"/approve", struct{}{}, &e); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Out, "%s approved; node %s gets its certificate when it asks next\n", e.ID, e.Node)
			return err
		},
	}
	cmd.Flags().BoolVar(&deny, "deny", false, "refuse it instead")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask, whoever is thrown out")
	return cmd
}

// spare asks before a device that is online loses its place to the one that waits as which.
func (a *App) spare(ctx context.Context, c *Client, which string) error {
	var list api.List[api.Enrollment]
	if err := c.Get(ctx, "/v1/enrollments", &list); err != nil {
		return err
	}
	for _, e := range list.Items {
		if e.Rejoin && (e.ID == which || e.Node == which) && (e.Presence == api.PresenceOnline || e.Presence == api.PresenceDraining) {
			return a.agree(fmt.Sprintf("node %s is %s with another key; throw that device out for the one at %s (%s)",
				printable(e.Node), e.Presence, printable(e.From), printable(e.Host.Hostname)), printable(e.Node))
		}
	}
	return nil
}

func (a *App) nodeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Remove or label a node"}
	cmd.AddCommand(a.nodeRemove(), a.nodeLabel())
	return cmd
}

func (a *App) nodeLabel() *cobra.Command {
	return &cobra.Command{
		Use: "label NODE KEY=VALUE…", Short: "Set labels of a node; KEY= removes one", Args: cobra.MinimumNArgs(2),
		ValidArgsFunction: a.complete("nodes", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := a.within(cmd.Context())
			defer cancel()
			patch := api.NodePatch{Labels: map[string]string{}}
			for _, p := range args[1:] {
				key, value, err := label(p)
				if err != nil {
					return usage(err)
				}
				patch.Labels[key] = value
			}
			c, _, err := a.client()
			if err != nil {
				return err
			}
			var n api.Node
			if err := c.Patch(ctx, "/v1/nodes/"+url.PathEscape(args[0]), patch, &n); err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Out, n.ID, labels(n.Labels))
			return err
		},
	}
}
