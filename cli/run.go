package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
)

// runFlags are those of `run`.
type runFlags struct {
	nodes    []string
	selector string
	args     []string
	wait     bool
	follow   bool
	timeout  time.Duration
	deadline time.Duration
	format   string
}

func (a *App) runCommand() *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use:   "run VERB (--on NODE | -l SELECTOR) [-- ARGV…]",
		Short: "Have nodes do something",
		Long: `Have nodes do something. Every command ends in exactly one of succeeded, failed, rejected, cancelled, timed_out and
expired; --wait follows it there, also past a restart of the cluster agent. What follows -- is the argv of the verb exec.
A value of --arg is read as JSON where it is JSON (numbers, true, [1,2]); prefix the key with "=" to take it as text.

With --wait one node's output comes as it is printed, standard output and error apart; --follow=false prints the last
32 KiB at the end. Several nodes' outputs come at the end, as NODE | LINE, failures last. The exit code is 0 when all
succeeded, 7 when one did not, 8 when one has no final state after --timeout. Interrupting run cancels nothing. What a
command waits for before it begins, such as a place on its node, is told on standard error.`,
		Example: `  skerry run ping --on pump-3 --wait
  skerry run exec --on pump-3 -f -- /bin/df -h
  skerry run config.set --on pump-3 --wait --arg 'patch={"telemetry":{"interval":"30s"}}'
  skerry run log.tail -l site=harbour --arg lines=20 --wait`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeVerb(&f.nodes),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("follow") && f.follow {
				if len(f.nodes) != 1 {
					return usage(errors.New("--follow shows one node; the outputs of several come when they have ended"))
				}
				f.wait = true
			}
			return a.run(cmd.Context(), args[0], args[1:], f)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.nodes, "on", nil, "node, may be repeated")
	flags.StringVarP(&f.selector, "selector", "l", "", "every node with these labels: key=value,key2=value2")
	flags.StringArrayVar(&f.args, "arg", nil, "argument of the verb: key=value, may be repeated")
	flags.BoolVar(&f.wait, "wait", false, "wait for the final state and print what the command printed")
	flags.BoolVarP(&f.follow, "follow", "f", true, "of one node, print output as it comes; given, it implies --wait")
	flags.Var((*configs.Duration)(&f.timeout), "timeout", "with --wait: give up waiting after this (0: the deadline and its grace)")
	f.deadline = time.Minute
	flags.Var((*configs.Duration)(&f.deadline), "deadline", "the command is closed when it has not finished by then")
	a.formatFlag(cmd, &f.format)
	a.completeFlag(cmd, "on", "nodes")
	return cmd
}

func (a *App) run(ctx context.Context, verb string, argv []string, f *runFlags) error {
	if err := checkFormat(f.format); err != nil {
		return err
	}
	if (len(f.nodes) == 0) == (f.selector == "") {
		return usage(errors.New("wanted either --on NODE or -l SELECTOR; -l = takes every node"))
	}
	args, err := parseArgs(f.args)
	if err != nil {
		return usage(err)
	}
	if len(argv) > 0 {
		args["argv"] = argv
	}
	c, _, err := a.client()
	if err != nil {
		return err
	}
	body := api.CommandRequest{Nodes: distinct(f.nodes), Selector: f.selector, Verb: verb, Args: args, Deadline: f.deadline.String()}
	if len(body.Nodes) == 1 { // so that it can be asked for, whatever happens to the answer
		body.ID = api.NewID()
	}
	w := a.waiting(c, f)
	if f.wait && f.follow && len(body.Nodes) == 1 && f.format == "table" {
		return w.live(ctx, body)
	}
	if f.wait {
		return w.order(ctx, body)
	}
	list, err := w.post(ctx, body)
	if err != nil {
		return err
	}
	return show(a.Out, f.format, list, commandName, a.commandColumns())
}

// distinct drops repeated nodes: whoever names one twice does not mean twice.
func distinct(nodes []string) []string {
	var out []string
	for _, n := range nodes {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// parseArgs reads key=value pairs.
func parseArgs(pairs []string) (map[string]any, error) {
	out := make(map[string]any, len(pairs))
	for _, p := range pairs {
		text := strings.HasPrefix(p, "=")
		key, value, ok := strings.Cut(strings.TrimPrefix(p, "="), "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--arg %q: wanted key=value", p)
		}
		var v any
		if text || json.Unmarshal([]byte(value), &v) != nil || v == nil {
			v = value
		}
		out[key] = v
	}
	return out, nil
}

func (a *App) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cancel COMMAND", Short: "Cancel a command that has not finished", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.complete("commands", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := a.within(cmd.Context())
			defer stop()
			c, _, err := a.client()
			if err != nil {
				return err
			}
			var r api.CommandRecord
			if err := c.Post(ctx, "/v1/commands/"+url.PathEscape(args[0])+"/cancel", struct{}{}, &r); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Out, "%s on %s: %s\n", r.ID, r.Node, r.Phase)
			return err
		},
	}
}
