package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
)

func (a *App) rolloutCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "rollout", Short: "Update node agents to a release, batch by batch"}
	cmd.AddCommand(a.rolloutCreate(), a.listCommand("rollouts", "List rollouts, the newest first"), a.rolloutShow(),
		a.rolloutAct("pause", "Begin no more updates; those that were begun go on"),
		a.rolloutAct("resume", "Go on; a batch that failed is accepted as it is"),
		a.rolloutAct("abort", "End it; updates that were begun are cancelled where that is possible"))
	return cmd
}

func (a *App) rolloutCreate() *cobra.Command {
	var spec api.RolloutSpec
	pause, node := time.Duration(0), time.Hour
	cmd := &cobra.Command{
		Use: "create NAME VERSION [NODE…]", Short: "Begin a rollout", Args: cobra.MinimumNArgs(2),
		Long: `Begin a rollout: NODE…, or those with the labels of -l, go to VERSION, batch after batch, in the order of their names.

It pauses by itself when less than --success percent of a batch succeed. A node that is away has --node-time to come back.`,
		Example: `  skerry rollout create v140 1.4.0 -l site=harbour --batch 10% --pause 10m --window 22:00-04:00
  skerry rollout create canary 1.4.0 pump-3`,
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.Name, spec.Version, spec.Nodes = args[0], args[1], args[2:]
			spec.PauseSeconds, spec.NodeSeconds = int64(pause/time.Second), int64(node/time.Second)
			if (len(spec.Nodes) == 0) == (spec.Selector == "") {
				return usage(errors.New("wanted either NODE or -l SELECTOR; -l = takes every node"))
			}
			check := spec
			if err := check.Validate(); err != nil {
				return usage(err)
			}
			return a.onRollout(cmd.Context(), "/v1/rollouts", spec)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&spec.Selector, "selector", "l", "", "every node with these labels: key=value,key2=value2")
	flags.StringVar(&spec.Batch, "batch", "10%", "nodes at a time: a number, or a share of all")
	flags.IntVar(&spec.SuccessPercent, "success", 100, "percent of a batch that have to succeed, or the rollout pauses")
	flags.Var((*configs.Duration)(&pause), "pause", "wait so long between two batches")
	flags.StringVar(&spec.Window, "window", "", "begin updates only at this time of day, in UTC: 22:00-04:00; a node that was away waits for it")
	flags.Var((*configs.Duration)(&node), "node-time", "how long a node has, from its order to its end")
	flags.StringVar(&spec.URL, "url", "", "of a release server in place of the cluster agent")
	flags.BoolVar(&spec.Force, "force", false, "also nodes for which the version is not newer")
	return cmd
}

func (a *App) rolloutAct(action, short string) *cobra.Command {
	cmd := &cobra.Command{Use: action + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onRollout(cmd.Context(), "/v1/rollouts/"+url.PathEscape(args[0])+"/"+action, struct{}{})
		}}
	cmd.ValidArgsFunction = a.complete("rollouts", 1)
	return cmd
}

// onRollout asks for something, and tells how the rollout stands then.
func (a *App) onRollout(ctx context.Context, path string, body any) error {
	ctx, cancel := a.within(ctx)
	defer cancel()
	c, _, err := a.client()
	if err != nil {
		return err
	}
	var r api.Rollout
	if err := c.Post(ctx, path, body, &r); err != nil {
		return err
	}
	return a.printRollout(&r, false)
}

func (a *App) rolloutShow() *cobra.Command {
	var format string
	cmd := &cobra.Command{Use: "show NAME", Short: "Show how a rollout stands, node by node", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			k, err := a.kind("rollouts")
			if err != nil {
				return err
			}
			if format != "" && format != "wide" && format != "table" {
				return a.get(cmd.Context(), k, args[0], &getFlags{format: format})
			}
			ctx, cancel := a.within(cmd.Context())
			defer cancel()
			c, _, err := a.client()
			if err != nil {
				return err
			}
			var r api.Rollout
			if err := c.Get(ctx, "/v1/rollouts/"+url.PathEscape(args[0]), &r); err != nil {
				return err
			}
			return a.printRollout(&r, true)
		}}
	a.formatFlag(cmd, &format)
	cmd.ValidArgsFunction = a.complete("rollouts", 1)
	return cmd
}

// printRollout writes a rollout for people.
func (a *App) printRollout(r *api.Rollout, members bool) error {
	_, err := fmt.Fprintf(a.Out, "%s to %s: %s, batch %d of %d; %s\n", r.Name, r.Version, r.State, r.Current, r.Batches, rolloutProgress(*r))
	if err == nil && r.Reason != "" {
		_, err = fmt.Fprintf(a.Out, "  %s\n", r.Reason)
	}
	for _, m := range r.Members {
		if err != nil || !members {
			break
		}
		_, err = fmt.Fprintf(a.Out, "  %-4d %-32s %-10s %s\n", m.Batch, m.Node, m.State, m.Reason)
	}
	return err
}

func rolloutName(r api.Rollout) string { return r.Name }

func rolloutProgress(r api.Rollout) string {
	c := r.Counts
	return fmt.Sprintf("%d succeeded, %d updating, %d waiting, %d failed, %d skipped", c.Succeeded, c.Updating, c.Waiting, c.Failed, c.Skipped)
}

func (a *App) rolloutColumns() []column[api.Rollout] {
	return []column[api.Rollout]{
		{"ROLLOUT", always, rolloutName},
		{"VERSION", always, func(r api.Rollout) string { return r.Version }},
		{"STATE", always, func(r api.Rollout) string { return string(r.State) }},
		{"BATCH", always, func(r api.Rollout) string { return fmt.Sprintf("%d/%d", r.Current, r.Batches) }},
		{"DONE", always, func(r api.Rollout) string { return fmt.Sprintf("%d/%d", r.Counts.Succeeded, r.Counts.Total()) }},
		{"FAILED", always, func(r api.Rollout) string { return fmt.Sprint(r.Counts.Failed) }},
		{"AGE", always, func(r api.Rollout) string { return a.since(r.Created) }},
		{"REASON", wide, func(r api.Rollout) string { return r.Reason }},
	}
}
