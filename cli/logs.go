package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/configs"
)

// maxLogLines is the most that a node gives at once.
const maxLogLines = 10_000

// logsFlags are those of `logs`.
type logsFlags struct {
	source string
	lines  int
	follow bool
	since  time.Duration
}

func (a *App) logsCommand() *cobra.Command {
	f := &logsFlags{}
	cmd := &cobra.Command{
		Use: "logs NODE", Short: "Show the log of a node's agent, or of a file it permits", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.complete("nodes", 1),
		Example: `  skerry logs pump-3 --tail 50 -f
  skerry logs pump-3 --since 10m
  skerry logs pump-3 --source syslog`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.since < 0 {
				return usage(fmt.Errorf("--since %s: wanted a duration such as 10m", f.since))
			}
			if f.since > 0 && !cmd.Flags().Changed("tail") && !cmd.Flags().Changed("lines") {
				f.lines = maxLogLines
			}
			if f.lines < 0 || f.lines > maxLogLines {
				return usage(fmt.Errorf("--tail %d: wanted 0 to %d", f.lines, maxLogLines))
			}
			return a.logs(cmd, args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.source, "source", "agent", "agent, or the name of a file in the node's command.logs")
	flags.IntVarP(&f.lines, "tail", "n", 100, "last lines to begin with")
	flags.IntVar(&f.lines, "lines", 100, "the same as --tail")
	flags.BoolVarP(&f.follow, "follow", "f", false, "go on as the log grows")
	flags.Var((*configs.Duration)(&f.since), "since", "only lines not older than this; of a log whose lines begin with their time")
	_ = flags.MarkHidden("lines") // its name until --tail
	return cmd
}

func (a *App) logs(cmd *cobra.Command, node string, f *logsFlags) error {
	c, _, err := a.client()
	if err != nil {
		return err
	}
	q := url.Values{"source": {f.source}, "lines": {fmt.Sprint(f.lines)}, "follow": {fmt.Sprint(f.follow)}}
	stop := a.meanwhile(cmd.Context(), c, errand{node, "log.tail", "source", f.source})
	resp, err := c.Do(cmd.Context(), http.MethodGet, "/v1/nodes/"+url.PathEscape(node)+"/logs?"+q.Encode(), nil)
	stop()
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if f.since > 0 {
		err = younger(a.Out, resp.Body, a.Now().Add(-f.since))
	} else {
		_, err = io.Copy(a.Out, resp.Body)
	}
	if err != nil {
		return c.explain(fmt.Errorf("read log of %s: %w", node, err))
	}
	return trailerError(resp)
}

// younger copies the lines from the first one on whose time is not before limit. A line that tells none belongs to the
// one before it.
func younger(w io.Writer, log io.Reader, limit time.Time) error {
	lines := bufio.NewReader(log)
	told, on, some := false, false, false
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			some = true
			if at, ok := timeOf(line); ok {
				told = true
				on = on || !at.Before(limit)
			}
			if on {
				if _, werr := io.WriteString(w, line); werr != nil {
					return werr
				}
			}
		}
		if errors.Is(err, io.EOF) {
			if some && !told {
				return fail(ExitUsage, "--since: no line of this log tells its time; use --tail")
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// timeOf reads the time of a line: time=RFC3339 as the agents write it, {"time":…} as they do in JSON, or RFC 3339 in
// front.
func timeOf(line string) (time.Time, bool) {
	first, _, _ := strings.Cut(strings.TrimSpace(line), " ")
	first = strings.TrimPrefix(first, "time=")
	if strings.HasPrefix(line, "{") {
		var fields struct {
			Time string `json:"time"`
		}
		if json.Unmarshal([]byte(line), &fields) == nil {
			first = fields.Time
		}
	}
	at, err := time.Parse(time.RFC3339Nano, first)
	return at, err == nil
}
