package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

func (a *App) describeCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "describe node|command NAME", Short: "Tell all about one node or command", Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return beginning([]string{"node", "command"}, word), cobra.ShellCompDirectiveNoFileComp
			}
			return a.complete(args[0], 2)(cmd, args, word)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			ctx, cancel := a.within(cmd.Context())
			defer cancel()
			c, _, err := a.client()
			if err != nil {
				return err
			}
			switch args[0] {
			case "node", "nodes":
				return a.describeNode(ctx, c, args[1], format)
			case "command", "commands":
				return a.describeOrder(ctx, c, args[1], format)
			}
			return usage(fmt.Errorf("describe %q: wanted node or command", args[0]))
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, json or yaml")
	return cmd
}

func (a *App) describeNode(ctx context.Context, c *Client, id, format string) error {
	var n api.Node
	if err := c.Get(ctx, "/v1/nodes/"+url.PathEscape(id), &n); err != nil {
		return err
	}
	switch format {
	case "json":
		return writeJSON(a.Out, n)
	case "yaml":
		return writeYAML(a.Out, n)
	}
	b := birth(n)
	t := &table{}
	t.add("Node", n.ID+" of cluster "+n.Cluster)
	t.add("State", fmt.Sprintf("%s for %s: %s", n.Presence, a.since(n.Since), n.Reason))
	t.add("Last seen", a.since(n.LastSeen)+" ago")
	t.add("Enrolled", clock(n.Enrolled))
	t.add("Key", "sha256 "+n.KeySHA256)
	t.add("Certificate", "expires "+a.until(n.Certificate.NotAfter)+", "+clock(n.Certificate.NotAfter))
	t.add("Labels", labels(n.Labels))
	t.add("Agent", fmt.Sprintf("%s, started %s ago, restarted %s", b.Version, a.since(b.Started), many(int(n.Restarts), "time")))
	t.add("Machine", strings.TrimPrefix(fmt.Sprintf("%s, %s, %s, %d CPUs, %s", b.Host.Model, b.Host.Arch, b.Host.OS, b.Host.CPUs,
		agent.Size(float64(b.Host.MemoryBytes))), ", "))
	t.add("Kernel", b.Host.Kernel)
	t.add("Boot", fmt.Sprintf("%s, rebooted %s", n.Boot, many(int(n.Reboots), "time")))
	t.add("Clock", string(b.TimeQuality))
	t.add("At connect", fmt.Sprintf("%d batches, %d events, %s", b.Backlog.Batches, b.Backlog.Events, agent.Size(float64(b.Backlog.Bytes))))
	d := b.Backlog.Dropped
	t.add("Dropped", fmt.Sprintf("%d samples in %d batches, %d down-sampled, %d events, %d alarms", d.Samples, d.Batches, d.Downsampled, d.Events, d.Alarms))
	if len(n.Rejected) > 0 {
		t.add("Rejected", counts(n.Rejected)+": samples that the cluster agent did not store")
	}
	has := b.Desired.Generation // when it connected
	if n.Reported != nil {
		has = max(has, n.Reported.Generation)
	}
	t.add("Desired", fmt.Sprintf("generation %d, node has %d", n.Desired.Generation, has))
	if n.Wanted != nil {
		t.add("Assigned", assigned(&n))
	}
	if n.Reported != nil && n.Reported.Config.State != "" {
		t.add("Config", strings.TrimSuffix(n.Reported.Config.State+"; "+n.Reported.Config.Reason, "; "))
	}
	if err := t.write(a.Out); err != nil {
		return err
	}
	return a.describeParts(b)
}

// counts writes numbers by name, in the order of the names.
func counts(m map[string]uint64) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%d %s", m[k], k))
	}
	return strings.Join(parts, ", ")
}

// describeParts tells what the node measures and can be told to do.
func (a *App) describeParts(b api.Birth) error {
	probes := &table{limit: maxColumns}
	probes.add("PROBE", "EVERY", "ERROR")
	for _, p := range b.Probes {
		probes.add(p.Name, fmt.Sprintf("%gs", float64(p.IntervalMillis)/1000), p.Error)
	}
	verbs := &table{limit: maxColumns}
	verbs.add("VERB", "ROLE", "HELP")
	for _, v := range b.Verbs {
		verbs.add(v.Name, string(v.Role), v.Help)
	}
	for _, t := range []*table{probes, verbs} {
		if len(t.rows) == 1 {
			continue
		}
		if _, err := io.WriteString(a.Out, "\n"); err != nil {
			return err
		}
		if err := t.write(a.Out); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) describeOrder(ctx context.Context, c *Client, id, format string) error {
	var r api.CommandRecord
	if err := c.Get(ctx, "/v1/commands/"+url.PathEscape(id), &r); err != nil {
		return err
	}
	switch format {
	case "json":
		return writeJSON(a.Out, r)
	case "yaml":
		return writeYAML(a.Out, r)
	}
	t := &table{}
	t.add("Command", r.ID)
	t.add("Node", r.Node)
	t.add("Verb", r.Verb)
	t.add("Args", compact(r.Args))
	t.add("Asked by", r.By+" at "+instantOf(r.Created))
	t.add("Deadline", clock(r.Deadline))
	t.add("Phase", string(r.Phase))
	if r.Status != nil && r.Status.Progress != "" {
		t.add("Progress", r.Status.Progress)
	}
	for i, h := range r.History {
		t.add(map[bool]string{true: "History", false: " "}[i == 0], fmt.Sprintf("%s  %8s  %-11s %-7s %s", instantOf(h.At), after(h.At-r.Created), h.Phase, h.Side, h.Reason))
	}
	if err := t.write(a.Out); err != nil {
		return err
	}
	return a.printOutcome(r)
}

// after writes how long after the order a step came.
func after(ms api.Millis) string {
	switch {
	case ms < 0:
		return "-" // another clock
	case ms < 10_000:
		return fmt.Sprintf("+%d ms", ms)
	}
	return fmt.Sprintf("+%.1f s", float64(ms)/1000)
}
