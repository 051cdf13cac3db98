package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// check is one line of `skerry doctor`.
type check struct {
	Step   string `json:"step"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Cure   string `json:"cure,omitempty"`
}

func (a *App) doctorCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check this context, the cluster agent and its nodes (on a device: skerry-edge doctor)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			ctx, cancel := a.within(cmd.Context())
			defer cancel()
			checks, err := a.examine(ctx)
			if format == "json" || format == "yaml" {
				write := writeJSON
				if format == "yaml" {
					write = writeYAML
				}
				return errors.Join(write(a.Out, checks), err)
			}
			for _, c := range checks {
				mark := "ok    "
				if !c.OK {
					mark = "FAIL  "
				}
				line := fmt.Sprintf("%s%-12s %s\n", mark, c.Step, printable(c.Detail))
				if c.Cure != "" {
					line += fmt.Sprintf("      cure         %s\n", c.Cure)
				}
				if _, ok := write(a.Out, line); !ok {
					return err
				}
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, json or yaml")
	return cmd
}

// examine checks step by step; the error is that of the first step that makes the others pointless.
func (a *App) examine(ctx context.Context) ([]check, error) {
	c, x, err := a.client()
	if err != nil {
		return []check{{"context", false, err.Error(), "see the message"}}, err
	}
	checks := []check{{"context", true, x.Name + " at " + x.Server, ""}}
	var st api.ClusterStatus
	if err := c.Get(ctx, "/v1/status", &st); err != nil {
		return append(checks, check{"server", false, err.Error(), "see the message"}), err
	}
	checks = append(checks, check{"server", true, fmt.Sprintf("skerry-cluster %s of cluster %s, up for %s", st.Version, st.Cluster,
		agent.Span(a.Now().Sub(st.Started.Time()))), ""})
	checks = append(checks, a.checkClock(st), checkBroker(st), checkNodes(st))
	for _, trouble := range st.Trouble { // each line names its cure
		checks = append(checks, check{"trouble", false, trouble, ""})
	}
	if st.Pending > 0 {
		checks = append(checks, check{"approvals", false, fmt.Sprintf("waiting for approval: %s", many(st.Pending, "device")), "skerry get enrollments; skerry approve ID"})
	}
	return checks, nil
}

func (a *App) checkClock(st api.ClusterStatus) check {
	off := a.Now().Sub(st.Now.Time()).Round(time.Second)
	if off.Abs() > 30*time.Second {
		return check{"clock", false, fmt.Sprintf("this machine and the cluster agent differ by %s", off), "let both follow an NTP server"}
	}
	return check{"clock", true, fmt.Sprintf("differs by %s", off), ""}
}

func checkBroker(st api.ClusterStatus) check {
	c := check{Step: "broker", OK: st.Broker == "up", Detail: st.Broker}
	if !c.OK {
		c.Cure = "see the log of skerry-cluster"
	}
	_, port, err := net.SplitHostPort(trimScheme(st.MQTT))
	if err == nil {
		c.Detail += ", nodes reach it at port " + port
	}
	return c
}

func trimScheme(urls []string) string {
	if len(urls) == 0 {
		return ""
	}
	const scheme = "mqtts://"
	if len(urls[0]) > len(scheme) && urls[0][:len(scheme)] == scheme {
		return urls[0][len(scheme):]
	}
	return urls[0]
}

func checkNodes(st api.ClusterStatus) check {
	total := 0
	for _, n := range st.Nodes {
		total += n
	}
	gone := st.Nodes[api.PresenceDisconnected] + st.Nodes[api.PresenceLost]
	c := check{"nodes", gone == 0, fmt.Sprintf("%d of %d online, %d disconnected, %d lost", st.Nodes[api.PresenceOnline], total,
		st.Nodes[api.PresenceDisconnected], st.Nodes[api.PresenceLost]), ""}
	if gone > 0 {
		c.Cure = "skerry get nodes tells why; on the device: skerry-edge doctor"
	}
	return c
}
