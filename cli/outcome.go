package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// outcome prints what became of commands: of one, what it printed; of several, what each printed behind the node's name,
// those that did not succeed last, and a line that sums up.
func (a *App) outcome(records []api.CommandRecord, f *runFlags) error {
	if f.format != "table" {
		return show(a.Out, f.format, records, commandName, a.commandColumns())
	}
	if len(records) == 1 {
		return a.printOutcome(records[0])
	}
	sorted := slices.Clone(records)
	rank := func(r api.CommandRecord) int {
		if r.Phase == api.PhaseSucceeded {
			return 0
		}
		return 1
	}
	slices.SortFunc(sorted, func(x, y api.CommandRecord) int {
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(x.Node, y.Node))
	})
	width, good := 0, 0
	for _, r := range sorted {
		width = max(width, len(r.Node))
	}
	for _, r := range sorted {
		if err := a.printBlock(r, width); err != nil {
			return err
		}
		if rank(r) == 0 {
			good++
		}
	}
	_, err := fmt.Fprintf(a.Out, "%d of %s succeeded\n", good, many(len(sorted), "command"))
	return err
}

// printBlock prints what one of several nodes printed, line by line, and how it ended when not well.
func (a *App) printBlock(r api.CommandRecord, width int) error {
	var text bytes.Buffer
	if err := (&App{Out: &text, Err: &text, Now: a.Now}).printOutcome(r); err != nil {
		return err
	}
	switch {
	case r.Phase != api.PhaseSucceeded:
		if text.Len() > 0 && !bytes.HasSuffix(text.Bytes(), []byte("\n")) {
			text.WriteString("\n")
		}
		fmt.Fprintf(&text, "%s: %s", strings.ToUpper(string(r.Phase)), cmp.Or(lastReason(r), "no reason was given"))
		if r.ID != "" {
			fmt.Fprintf(&text, " (command %s)", r.ID)
		}
	case text.Len() == 0:
		text.WriteString("succeeded, printed nothing")
	}
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintf(a.Out, "%-*s | %s\n", width, r.Node, printable(strings.TrimRight(line, "\r\n"))); err != nil {
			return err
		}
	}
	return nil
}

// printOutcome writes what a command printed or returned.
func (a *App) printOutcome(r api.CommandRecord) error {
	if r.Status == nil {
		return nil
	}
	if r.Status.Truncated > 0 {
		if _, err := fmt.Fprintf(a.Err, "(%s of output before this were left out)\n", agent.Size(float64(r.Status.Truncated))); err != nil {
			return err
		}
	}
	if r.Status.Output != "" {
		if _, err := io.WriteString(a.Out, r.Status.Output); err != nil {
			return err
		}
	}
	if len(r.Status.Result) == 0 {
		return nil
	}
	if r.Verb == "ping" && r.Phase == api.PhaseSucceeded {
		_, err := fmt.Fprintln(a.Out, pong(r))
		return err
	}
	return writeYAML(a.Out, r.Status.Result)
}

// pong tells a ping's result in one line.
func pong(r api.CommandRecord) string {
	number := func(key string) (float64, bool) {
		v, ok := r.Status.Result[key].(float64) // of JSON
		return v, ok
	}
	parts := []string{"pong from " + r.Node}
	if n := len(r.History); n > 0 && r.History[n-1].At >= r.Created {
		parts[0] += fmt.Sprintf(" in %d ms", r.History[n-1].At-r.Created)
	}
	if at, ok := number("at"); ok {
		parts = append(parts, fmt.Sprintf("its clock (%v) says %s", r.Status.Result["timeQuality"], instantOf(api.Millis(at))))
	}
	for _, up := range []struct{ key, what string }{{"nodeUptimeSeconds", "node"}, {"agentUptimeSeconds", "agent"}} {
		if s, ok := number(up.key); ok {
			parts = append(parts, up.what+" up for "+agent.Span(time.Duration(s*float64(time.Second))))
		}
	}
	if payload, ok := r.Status.Result["payload"].(string); ok {
		parts = append(parts, "payload "+printable(payload))
	}
	return strings.Join(parts, "; ")
}
