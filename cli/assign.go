package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/api"
)

func (a *App) releaseAssign() *cobra.Command {
	var req api.AgentRequest
	var selector string
	cmd := &cobra.Command{
		Use: "assign VERSION (NODE… | -l SELECTOR)", Short: "State which version the agents of nodes should be", Args: cobra.MinimumNArgs(1),
		Long: `State which version the agents of nodes should be, from now on: each goes there when it is there, and back to it after whatever
else was done to it. All begin at once; skerry rollout goes batch by batch.

A version that fails its trial is not tried again until another one is assigned, or --retry says so.`,
		Example: `  skerry release assign 1.4.0 pump-3
  skerry release assign 1.4.0 -l site=harbour --window 22:00-04:00`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Version = args[0]
			return a.onNodes(cmd.Context(), args[1:], selector, func(ctx context.Context, c *Client, node string) error {
				var n api.Node
				if err := c.Put(ctx, "/v1/nodes/"+url.PathEscape(node)+"/agent", req, &n); err != nil {
					return err
				}
				_, err := fmt.Fprintf(a.Out, "%s: %s\n", node, assigned(&n))
				return err
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&selector, "selector", "l", "", "every node with these labels: key=value,key2=value2")
	flags.StringVar(&req.Window, "window", "", "begin updates only at this time of day, in UTC: 22:00-04:00")
	flags.StringVar(&req.URL, "url", "", "of a release server in place of the cluster agent")
	flags.BoolVar(&req.Force, "force", false, "also nodes for which the version is not newer")
	flags.BoolVar(&req.Retry, "retry", false, "try once more what failed")
	return cmd
}

func (a *App) releaseUnassign() *cobra.Command {
	var selector string
	cmd := &cobra.Command{
		Use: "unassign (NODE… | -l SELECTOR)", Short: "State no version any more; the agents stay what they are", ValidArgsFunction: a.complete("nodes", 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onNodes(cmd.Context(), args, selector, func(ctx context.Context, c *Client, node string) error {
				if err := c.Delete(ctx, "/v1/nodes/"+url.PathEscape(node)+"/agent"); err != nil {
					return err
				}
				_, err := fmt.Fprintln(a.Out, node, "unassigned")
				return err
			})
		},
	}
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "every node with these labels: key=value,key2=value2")
	return cmd
}

// onNodes does something to each of the nodes that are named or have the labels of selector. One that fails does not keep the others.
func (a *App) onNodes(ctx context.Context, named []string, selector string, do func(ctx context.Context, c *Client, node string) error) error {
	if (len(named) == 0) == (selector == "") {
		return usage(errors.New("wanted either NODE or -l SELECTOR; -l = takes every node"))
	}
	c, _, err := a.client()
	if err != nil {
		return err
	}
	nodes := distinct(named)
	if selector != "" {
		if nodes, err = a.selected(ctx, c, selector); err != nil {
			return err
		}
	}
	var failed []error
	for _, n := range nodes {
		func() {
			ctx, cancel := a.within(ctx)
			defer cancel()
			if err := do(ctx, c, n); err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", n, err))
			}
		}()
	}
	return errors.Join(failed...)
}

// assigned tells which version a node was assigned, and how it stands to that.
func assigned(n *api.Node) string {
	if n.Wanted == nil {
		return "none"
	}
	text := n.Wanted.Version
	switch r := n.Reported; {
	case r == nil || r.Agent == nil || r.Agent.Try != n.Wanted.Try:
		return text + "; the node has not answered yet"
	case r.Agent.Reason != "":
		return text + ": " + r.Agent.State + ", runs " + r.Agent.Version + "; " + r.Agent.Reason
	default:
		return text + ": " + r.Agent.State + ", runs " + r.Agent.Version
	}
}
