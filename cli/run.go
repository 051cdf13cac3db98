package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// runFlags are those of `run`.
type runFlags struct {
	nodes    []string
	selector string
	args     []string
	wait     bool
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
expired; --wait follows it there. What follows -- is the argv of the verb exec.
A value of --arg is read as JSON where it is JSON (numbers, true, [1,2]); prefix the key with "=" to take it as text.`,
		Example: `  skerry run ping --on pump-3 --wait
  skerry run exec --on pump-3 --wait -- /bin/df -h
  skerry run config.set --on pump-3 --wait --arg 'patch={"telemetry":{"interval":"30s"}}'
  skerry run log.tail -l site=harbour --arg lines=20 --wait`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.run(cmd.Context(), args[0], args[1:], f) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.nodes, "on", nil, "node, may be repeated")
	flags.StringVarP(&f.selector, "selector", "l", "", "every node with these labels: key=value,key2=value2")
	flags.StringArrayVar(&f.args, "arg", nil, "argument of the verb: key=value, may be repeated")
	flags.BoolVar(&f.wait, "wait", false, "wait for the final state and print what the command printed")
	flags.DurationVar(&f.timeout, "timeout", 0, "with --wait: give up waiting after this (0: the deadline and its grace)")
	flags.DurationVar(&f.deadline, "deadline", time.Minute, "the command is closed when it has not finished by then")
	flags.StringVarP(&f.format, "output", "o", "table", "table, wide, json, yaml or name")
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
	var list api.List[api.CommandRecord]
	body := api.CommandRequest{Nodes: f.nodes, Selector: f.selector, Verb: verb, Args: args, Deadline: f.deadline.String()}
	if len(f.nodes) == 1 { // a retry by the transport must not command twice
		body.ID = api.NewID()
	}
	short, cancel := within(ctx)
	defer cancel()
	if err := c.Post(short, "/v1/commands", body, &list); err != nil {
		return err
	}
	if !f.wait {
		return show(a.Out, f.format, list.Items, commandName, a.commandColumns())
	}
	return a.await(ctx, c, list.Items, f)
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

// await follows commands to their final states, with a line of progress where somebody looks on.
func (a *App) await(ctx context.Context, c *Client, records []api.CommandRecord, f *runFlags) error {
	timeout := f.timeout
	if timeout == 0 {
		timeout = f.deadline + 30*time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	open := map[string]int{}
	for i, r := range records {
		if !r.Final {
			open[r.ID] = i
		}
	}
	p := &progress{w: a.Err, on: isTerminal(a.Err), total: len(records)}
	p.tell(len(records) - len(open))
	errDone := errors.New("done")
	take := func(r *api.CommandRecord) error {
		i, mine := open[r.ID]
		if !mine {
			return nil
		}
		records[i] = *r
		if r.Final {
			delete(open, r.ID)
			p.tell(len(records) - len(open))
		}
		if len(open) == 0 {
			return errDone
		}
		return nil
	}
	var err error
	if len(open) > 0 {
		err = a.follow(ctx, c, func(ch *api.Change) error {
			if ch.Command == nil {
				return nil
			}
			return take(ch.Command)
		})
	}
	p.end()
	if err != nil && !errors.Is(err, errDone) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if err := a.outcome(records, f); err != nil {
		return err
	}
	return verdict(records, len(open), timeout)
}

// follow watches commands, also past a restart of the cluster agent: they go on without it, and so does who waits.
func (a *App) follow(ctx context.Context, c *Client, take func(*api.Change) error) error {
	for {
		err := c.Watch(ctx, url.Values{"kind": {"command"}, "initial": {"true"}}, take)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if exitCode(err) != ExitUnreachable {
			return err
		}
		if !agent.Wait(ctx, agent.Jitter(time.Second, 0.5)) {
			return err
		}
	}
}

// outcome prints what became of the commands: of one, what it printed; of several, a table.
func (a *App) outcome(records []api.CommandRecord, f *runFlags) error {
	if len(records) == 1 && f.format == "table" {
		return a.printOutcome(records[0])
	}
	return show(a.Out, f.format, records, commandName, a.commandColumns())
}

func verdict(records []api.CommandRecord, open int, timeout time.Duration) error {
	if open > 0 {
		return fail(ExitTimeout, "%d of %d commands have no final state after %s; follow them with: skerry get commands --open -w",
			open, len(records), timeout)
	}
	var bad []string
	for _, r := range records {
		if r.Phase != api.PhaseSucceeded {
			bad = append(bad, fmt.Sprintf("%s on %s %s: %s", r.Verb, r.Node, r.Phase, lastReason(r)))
		}
	}
	switch {
	case len(bad) == 0:
		return nil
	case len(records) == 1:
		return fail(ExitCommand, "%s", bad[0])
	case len(bad) > 5:
		return fail(ExitCommand, "%d of %d commands did not succeed", len(bad), len(records))
	}
	return fail(ExitCommand, "%d of %d commands did not succeed: %s", len(bad), len(records), strings.Join(bad, "; "))
}

func (a *App) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cancel COMMAND", Short: "Cancel a command that has not finished", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := within(cmd.Context())
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
