package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
)

// demoFlags are those of `demo`.
type demoFlags struct {
	nodes  int
	length time.Duration
	format string
	keep   bool
}

// demoSummary is what `demo -o json` prints.
type demoSummary struct {
	NodesOnline   int                         `json:"nodes_online"`
	SamplesStored uint64                      `json:"samples_stored"`
	SamplesOf     map[string]int              `json:"samples_of"` // stored of each node while the demo ran
	Commands      map[api.Phase]int           `json:"commands"`
	EdgeRSSBytes  []int64                     `json:"edge_rss_bytes"`
	ClusterRSS    int64                       `json:"cluster_rss_bytes"`
	Seconds       float64                     `json:"seconds"`
	Life          map[string][]api.Transition `json:"life"` // each command's history
}

func (a *App) demoCommand() *cobra.Command {
	f := &demoFlags{}
	cmd := &cobra.Command{
		Use: "demo", Short: "Run a cluster agent and node agents on this machine and show them", Args: cobra.NoArgs,
		Long: `Run a cluster agent and node agents on this machine, in a temporary directory, as they run in production: own CA, real
enrolment, mutual TLS. Shows telemetry and the life of commands. Ctrl-C ends it and leaves nothing behind, and so does
closing the terminal; another one, more than a second later, ends it at once and leaves its directory.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.format != "table" && f.format != "json" {
				return usage(fmt.Errorf("-o %q: wanted table or json", f.format))
			}
			if f.nodes < 1 || f.nodes > 50 {
				return usage(fmt.Errorf("--nodes %d: wanted 1 to 50", f.nodes))
			}
			if f.length < 0 {
				return usage(fmt.Errorf("--for %s: wanted a duration, or 0 to go on until Ctrl-C", f.length))
			}
			return a.demo(cmd.Context(), f)
		},
	}
	cmd.Flags().IntVar(&f.nodes, "nodes", 3, "how many node agents")
	cmd.Flags().Var((*configs.Duration)(&f.length), "for", "end after this (0: on Ctrl-C)")
	cmd.Flags().StringVarP(&f.format, "output", "o", "table", "table, or json for a summary at the end")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "leave the directory with its logs behind")
	return cmd
}

func (a *App) demo(ctx context.Context, f *demoFlags) (err error) {
	dir, err := os.MkdirTemp("", "skerry-demo-")
	if err != nil {
		return fmt.Errorf("make demo directory: %w", err)
	}
	started := a.Now()
	site := &demoSite{dir: dir, say: a.Err, nodes: f.nodes}
	defer func() {
		stopErr := site.stop()
		// Whoever ended it wants nothing left, though with a terminal that is gone the last words fail.
		if f.keep || err != nil && ctx.Err() == nil {
			_, _ = write(a.Err, "logs are in "+dir+"\n")
		} else {
			stopErr = errors.Join(stopErr, os.RemoveAll(dir))
		}
		err = errors.Join(err, stopErr)
	}()
	if err := site.start(ctx); err != nil {
		return err
	}
	orders, err := site.orders(ctx)
	if err != nil {
		return err
	}
	if f.format == "table" {
		if err := a.explainDemo(site, orders); err != nil {
			return err
		}
	}
	if err := a.showDemo(ctx, site, f, started); err != nil {
		return err
	}
	summary, err := site.summary(context.WithoutCancel(ctx), orders)
	if err != nil {
		return err
	}
	summary.Seconds = a.Now().Sub(started).Seconds()
	if f.format == "json" {
		return writeJSON(a.Out, summary)
	}
	_, err = fmt.Fprintf(a.Out, "\n%s online, %d samples stored; commands: %d succeeded, %d rejected, %d expired; %.0f s\n",
		many(summary.NodesOnline, "node"), summary.SamplesStored, summary.Commands[api.PhaseSucceeded], summary.Commands[api.PhaseRejected],
		summary.Commands[api.PhaseExpired], summary.Seconds)
	return err
}

// showDemo redraws the table every second until ctx or the demo's length ends. Where nobody looks on it is printed once: when
// every node has every figure, some of which take a few samples, or at the end.
func (a *App) showDemo(ctx context.Context, s *demoSite, f *demoFlags, started time.Time) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	live := isTerminal(a.Out)
	last, shown := "", f.format != "table"
	for over := false; ; {
		if f.format == "table" && (live || !shown) {
			text, whole, err := a.demoTable(ctx, s)
			if err != nil && ctx.Err() == nil {
				return err
			}
			if err != nil {
				text = last
			}
			if live && last != "" {
				last = fmt.Sprintf("\x1b[%dA\x1b[J", strings.Count(last, "\n"))
			} else {
				last = ""
			}
			if live || whole || over {
				if _, err := io.WriteString(a.Out, last+text); err != nil {
					return err
				}
				shown = true
			}
			last = text
		}
		if over {
			return nil
		}
		select {
		case <-ctx.Done():
			over = true
		case err := <-s.died:
			return err
		case <-tick.C:
			over = f.length > 0 && a.Now().Sub(started) >= f.length
		}
	}
}

// demoTable is what the nodes use, and whether every figure is there.
func (a *App) demoTable(ctx context.Context, s *demoSite) (text string, whole bool, err error) {
	rows, err := a.usage(ctx, s.client, "")
	if err != nil {
		return "", false, err
	}
	whole = len(rows) == s.nodes
	for _, r := range rows {
		whole = whole && min(r.CPUFraction, r.Load1, r.MemoryUsed, r.DiskUsed, r.AgentRSS) >= 0
	}
	var b strings.Builder
	err = show(&b, "table", rows, func(r usageRow) string { return r.Node }, usageColumns())
	return b.String(), whole, err
}

// explainDemo shows what became of the demo's commands, and how to do the same by hand.
func (a *App) explainDemo(s *demoSite, orders []api.CommandRecord) error {
	var b strings.Builder
	for _, r := range orders {
		lifeOf(&b, r)
	}
	if _, err := io.WriteString(a.Out, b.String()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.Out, `
The same by hand, from another terminal:
  export SKERRY_CONFIG=%[1]s/cluster/admin.yaml
  %[2]s get nodes
  %[2]s run ping --on demo-1 --wait
  %[2]s query 'node_load1'
and with any MQTT client:
  mosquitto_sub %[3]s -t '%[4]s/+/tele' -C 1
  mosquitto_sub %[3]s -i watch -t '%[4]s/demo-1/request/try1/status' &
  mosquitto_pub %[3]s -i ask -q 1 -t '%[4]s/demo-1/request/try1' -m '{"verb":"ping","deadline":"10s"}'

`, s.dir, s.program("skerry"), s.mosquittoFlags(), s.topicBase())
	return err
}

// lifeOf writes a block: the command, its whole life, and its outcome, none of them cut.
func lifeOf(b *strings.Builder, r api.CommandRecord) {
	words := []string{r.Verb}
	if argv, ok := r.Args["argv"].([]any); ok { // of JSON
		for _, word := range argv {
			words = append(words, fmt.Sprint(word))
		}
	}
	life := make([]string, 0, len(r.History))
	for _, h := range r.History {
		life = append(life, string(h.Phase))
	}
	outcome := lastReason(r)
	switch {
	case r.Phase != api.PhaseSucceeded || r.Status == nil:
	case r.Status.Output != "":
		outcome = r.Status.Output
	case r.Verb == "ping":
		outcome = pong(r)
	}
	fmt.Fprintf(b, "%s on %s\n", printable(strings.Join(words, " ")), r.Node)
	for _, text := range []string{strings.Join(life, " > "), outcome} {
		for line := range strings.Lines(strings.TrimSpace(text)) {
			for _, part := range wrap(printable(strings.TrimSpace(line)), maxColumns-4) {
				b.WriteString("    " + part + "\n")
			}
		}
	}
}

// wrap breaks s between words into lines of at most width characters; a longer word has a line of its own.
func wrap(s string, width int) []string {
	var out []string
	line := ""
	for _, word := range strings.Fields(s) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			out = append(out, line)
			line = word
		}
	}
	if line != "" {
		out = append(out, line)
	}
	return out
}
