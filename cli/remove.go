package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/api"
)

// maxNamed is how many nodes a question names; of more it gives the number.
const maxNamed = 10

func (a *App) nodeRemove() *cobra.Command {
	var selector string
	var yes bool
	cmd := &cobra.Command{
		Use: "remove (NODE… | -l SELECTOR)", Short: "Decommission nodes: revoke them, end their sessions, clear their retained topics",
		Long: `Decommission nodes: revoke them, end their sessions, clear their retained topics.

More than one is asked about first; --yes answers. One that cannot be removed does not keep the others, unless the cluster agent is
out of reach or permits nothing: the exit code is that of the first such.`,
		Example: `  skerry node remove pump-3
  skerry node remove -l site=harbour --yes`,
		ValidArgsFunction: a.complete("nodes", 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 0) == (selector == "") {
				return usage(errors.New("wanted either NODE or -l SELECTOR; -l = takes every node"))
			}
			c, _, err := a.client()
			if err != nil {
				return err
			}
			nodes := distinct(args)
			if selector != "" {
				if nodes, err = a.selected(cmd.Context(), c, selector); err != nil {
					return err
				}
			}
			if len(nodes) > 1 && !yes {
				if err := a.confirm("remove", nodes); err != nil {
					return err
				}
			}
			return a.removeNodes(cmd.Context(), c, nodes)
		},
	}
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "every node with these labels: key=value,key2=value2")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask, however many they are")
	return cmd
}

// selected lists the nodes with the labels of a selector.
func (a *App) selected(ctx context.Context, c *Client, selector string) ([]string, error) {
	ctx, cancel := a.within(ctx)
	defer cancel()
	var list api.List[api.Node]
	if err := c.Get(ctx, "/v1/nodes?"+url.Values{"selector": {selector}}.Encode(), &list); err != nil {
		return nil, err
	}
	if len(list.Items) == 0 {
		return nil, fail(ExitNotFound, "no node has the labels %q", selector)
	}
	names := make([]string, 0, len(list.Items))
	for _, n := range list.Items {
		names = append(names, n.ID)
	}
	return names, nil
}

// confirm asks whether to do something to nodes; all but yes is no.
func (a *App) confirm(what string, nodes []string) error {
	named := strings.Join(nodes[:min(len(nodes), maxNamed)], ", ")
	if len(nodes) > maxNamed {
		named += ", …"
	}
	return a.agree(fmt.Sprintf("%s %s (%s)", what, many(len(nodes), "node"), printable(named)), many(len(nodes), "node"))
}

// agree asks a question; all but yes is no, and nothing is done to what it is about.
func (a *App) agree(question, about string) error {
	if _, err := fmt.Fprintf(a.Err, "%s? [y/N] ", question); err != nil {
		return err
	}
	line, err := bufio.NewReader(a.In).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	if err != nil { // nobody there to answer
		return usage(fmt.Errorf("wanted an answer, or --yes: nothing was done to %s", about))
	}
	return fail(ExitError, "nothing was done")
}

// removeNodes removes one after the other, each within --request-timeout.
func (a *App) removeNodes(ctx context.Context, c *Client, nodes []string) error {
	remove := func(node string) error {
		ctx, cancel := a.within(ctx)
		defer cancel()
		return c.Delete(ctx, "/v1/nodes/"+url.PathEscape(node))
	}
	var errs []error
	for _, node := range nodes {
		err := remove(node)
		if ctx.Err() != nil || len(nodes) == 1 && err != nil {
			return errors.Join(append(errs, err)...)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", node, err))
			if exitCode(err) == ExitUnreachable || exitCode(err) == ExitForbidden { // so will the others
				break
			}
			continue
		}
		if _, err := fmt.Fprintln(a.Out, node, "removed"); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}
