package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
)

// answer is what the Prometheus HTTP API gives.
type answer struct {
	Status string `json:"status"`
	Error  string `json:"error"`
	Data   struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	} `json:"data"`
}

// point is one series of an instant vector or matrix.
type point struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
	Values [][2]any          `json:"values"`
}

func (p point) value() float64 {
	s, ok := p.Value[1].(string)
	if !ok {
		return 0
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0
	}
	return v
}

func instant(ctx context.Context, c *Client, expr string) ([]point, error) {
	var ans answer
	if err := c.Get(ctx, "/api/v1/query?"+url.Values{"query": {expr}}.Encode(), &ans); err != nil {
		return nil, err
	}
	var points []point
	if ans.Data.ResultType != "vector" {
		return nil, fmt.Errorf("query %s: result is a %s; wanted a vector", expr, ans.Data.ResultType)
	}
	return points, json.Unmarshal(ans.Data.Result, &points)
}

func (a *App) queryCommand() *cobra.Command {
	var format string
	var span, step time.Duration
	cmd := &cobra.Command{
		Use: "query PROMQL", Short: "Ask the telemetry store in PromQL", Args: cobra.ExactArgs(1),
		Example: `  skerry query 'max by (node) (node_load1)'
  skerry query 'rate(node_network_receive_bytes_total[5m])' --range 1h --step 1m -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			if err := positive("range", span); err != nil && cmd.Flags().Changed("range") {
				return err
			}
			if err := positive("step", step); err != nil {
				return err
			}
			ctx, cancel := a.within(cmd.Context())
			defer cancel()
			c, _, err := a.client()
			if err != nil {
				return err
			}
			path := "/api/v1/query?" + url.Values{"query": {args[0]}}.Encode()
			if span > 0 {
				now := a.Now()
				path = "/api/v1/query_range?" + url.Values{"query": {args[0]}, "step": {fmt.Sprint(step.Seconds())},
					"start": {fmt.Sprint(now.Add(-span).Unix())}, "end": {fmt.Sprint(now.Unix())}}.Encode()
			}
			var ans answer
			if err := c.Get(ctx, path, &ans); err != nil {
				return err
			}
			return a.printAnswer(ans, format)
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, wide, json or yaml")
	cmd.Flags().Var((*configs.Duration)(&span), "range", "a range of this length until now, in place of an instant")
	step = time.Minute
	cmd.Flags().Var((*configs.Duration)(&step), "step", "distance of two points of a range")
	return cmd
}

func (a *App) printAnswer(ans answer, format string) error {
	switch {
	case format == "json":
		return writeJSON(a.Out, ans.Data)
	case format == "yaml":
		return writeYAML(a.Out, ans.Data)
	case ans.Data.ResultType != "vector" && ans.Data.ResultType != "matrix":
		_, err := fmt.Fprintln(a.Out, string(ans.Data.Result))
		return err
	}
	var points []point
	if err := json.Unmarshal(ans.Data.Result, &points); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if len(points) == 0 {
		_, err := fmt.Fprintln(a.Err, "no series")
		return err
	}
	t := &table{limit: maxColumns}
	if format == "wide" {
		t.limit = 0
	}
	for _, p := range points {
		if ans.Data.ResultType == "vector" {
			t.add(fmt.Sprint(p.Value[1]), metric(p.Metric))
			continue
		}
		for _, v := range p.Values {
			at, ok := v[0].(float64)
			if !ok {
				continue
			}
			t.add(time.UnixMilli(int64(at*1000)).Local().Format(time.DateTime), fmt.Sprint(v[1]), metric(p.Metric))
		}
	}
	return t.write(a.Out)
}

// metric writes a series as PromQL does.
func metric(m map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if k != "__name__" {
			parts = append(parts, k+"="+strconv.Quote(m[k]))
		}
	}
	if len(parts) == 0 {
		return m["__name__"]
	}
	return m["__name__"] + "{" + strings.Join(parts, ", ") + "}"
}

// usageRow is one line of `top nodes`; a negative value is unknown.
type usageRow struct {
	Node        string  `json:"node"`
	State       string  `json:"state"`
	CPUFraction float64 `json:"cpuFraction"`
	Load1       float64 `json:"load1"`
	MemoryUsed  float64 `json:"memoryUsedFraction"`
	DiskUsed    float64 `json:"diskUsedFraction"`
	AgentRSS    float64 `json:"agentRssBytes"`
	SeenSeconds float64 `json:"seenSeconds"`
}

// usageQueries are what a row is made of; each yields one value per node.
func usageQueries() map[string]string {
	return map[string]string{
		"cpu":  `1 - sum by (node) (rate(node_cpu_seconds_total{mode="idle"}[2m])) / sum by (node) (rate(node_cpu_seconds_total[2m]))`,
		"load": `max by (node) (node_load1)`,
		"mem":  `1 - max by (node) (node_memory_MemAvailable_bytes) / max by (node) (node_memory_MemTotal_bytes)`,
		"disk": `max by (node) (1 - node_filesystem_avail_bytes / (node_filesystem_size_bytes > 0))`,
		"rss":  `max by (node) (skerry_edge_resident_memory_bytes)`,
	}
}

func (a *App) topCommand() *cobra.Command {
	var format, selector, order string
	cmd := &cobra.Command{
		Use: "top nodes", Short: "Show what the nodes use", Args: cobra.ExactArgs(1), ValidArgs: []string{"nodes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] != "nodes" && args[0] != "node" {
				return usage(fmt.Errorf("top %q: wanted nodes", args[0]))
			}
			if err := checkFormat(format); err != nil {
				return err
			}
			ctx, cancel := a.within(cmd.Context())
			defer cancel()
			c, _, err := a.client()
			if err != nil {
				return err
			}
			rows, err := a.usage(ctx, c, selector)
			if err != nil {
				return err
			}
			if err := sortUsage(rows, order); err != nil {
				return usage(err)
			}
			return show(a.Out, format, rows, func(r usageRow) string { return r.Node }, usageColumns())
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, wide, json, yaml or name")
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "only nodes with these labels")
	cmd.Flags().StringVar(&order, "sort", "node", "node, cpu, memory or disk")
	return cmd
}

func (a *App) usage(ctx context.Context, c *Client, selector string) ([]usageRow, error) {
	var nodes api.List[api.Node]
	if err := c.Get(ctx, "/v1/nodes?"+url.Values{"selector": {selector}}.Encode(), &nodes); err != nil {
		return nil, err
	}
	values := map[string]map[string]float64{}
	for name, expr := range usageQueries() {
		points, err := instant(ctx, c, expr)
		if err != nil {
			return nil, err
		}
		values[name] = map[string]float64{}
		for _, p := range points {
			values[name][p.Metric["node"]] = p.value()
		}
	}
	of := func(name, node string) float64 {
		if v, ok := values[name][node]; ok {
			return v
		}
		return -1
	}
	rows := make([]usageRow, 0, len(nodes.Items))
	for _, n := range nodes.Items {
		seen := -1.0
		if n.LastSeen != 0 {
			seen = a.Now().Sub(n.LastSeen.Time()).Seconds()
		}
		rows = append(rows, usageRow{n.ID, string(n.Presence), of("cpu", n.ID), of("load", n.ID), of("mem", n.ID), of("disk", n.ID),
			of("rss", n.ID), seen})
	}
	return rows, nil
}

func sortUsage(rows []usageRow, order string) error {
	by := map[string]func(usageRow) float64{
		"cpu":    func(r usageRow) float64 { return -r.CPUFraction },
		"memory": func(r usageRow) float64 { return -r.MemoryUsed },
		"disk":   func(r usageRow) float64 { return -r.DiskUsed },
		"node":   func(usageRow) float64 { return 0 },
	}[order]
	if by == nil {
		return errors.New(`--sort: wanted node, cpu, memory or disk`)
	}
	slices.SortFunc(rows, func(x, y usageRow) int {
		return cmp.Or(cmp.Compare(by(x), by(y)), cmp.Compare(x.Node, y.Node))
	})
	return nil
}

func usageColumns() []column[usageRow] {
	percent := func(v float64) string {
		if v < 0 {
			return "-"
		}
		return fmt.Sprintf("%.0f%%", v*100)
	}
	return []column[usageRow]{
		{"NODE", always, func(r usageRow) string { return r.Node }},
		{"STATE", always, func(r usageRow) string { return r.State }},
		{"CPU", always, func(r usageRow) string { return percent(r.CPUFraction) }},
		{"LOAD1", always, func(r usageRow) string {
			if r.Load1 < 0 {
				return "-"
			}
			return fmt.Sprintf("%.2f", r.Load1)
		}},
		{"MEMORY", always, func(r usageRow) string { return percent(r.MemoryUsed) }},
		{"DISK", always, func(r usageRow) string { return percent(r.DiskUsed) }},
		{"AGENT", always, func(r usageRow) string {
			if r.AgentRSS < 0 {
				return "-"
			}
			return agent.Size(r.AgentRSS)
		}},
		{"SEEN", always, func(r usageRow) string {
			if r.SeenSeconds < 0 {
				return "-"
			}
			return agent.Span(time.Duration(r.SeenSeconds * float64(time.Second)))
		}},
	}
}
