package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// level tells how bad a check came out.
type level string

const (
	levelOK   level = "ok"
	levelWarn level = "warn" // it does not stop work
	levelFail level = "fail" // it does, or telemetry is lost or late: the exit code is 1
)

// check is one line of `skerry doctor`. OK is whether it did not fail, as the exit code tells of all.
type check struct {
	Step   string `json:"step"`
	OK     bool   `json:"ok"`
	Level  level  `json:"level"`
	Detail string `json:"detail"`
	Cure   string `json:"cure,omitempty"`
}

// checked is a check that came out at l.
func checked(step string, l level, detail, cure string) check {
	return check{Step: step, OK: l != levelFail, Level: l, Detail: detail, Cure: cure}
}

func (a *App) doctorCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check this context, the cluster agent and its nodes (on a device: skerry-edge doctor)", Args: cobra.NoArgs,
		Long: `Check this context, the cluster agent and its nodes (on a device: skerry-edge doctor).

FAIL is what stops work: the exit code is 1, or that of the step that made the others pointless (5: cluster agent
unreachable). WARN is what does not stop work yet, such as a clock that nothing disciplines, a disk that is nearly full, a
certificate near its end or a device that waits for approval: the exit code is 0. In JSON and YAML each check has level
(ok, warn or fail), and ok, which is false where it failed.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			ctx, cancel := a.within(cmd.Context())
			defer cancel()
			checks, err := a.examine(ctx)
			if err == nil {
				err = verdict(checks)
			}
			if format == "json" || format == "yaml" {
				write := writeJSON
				if format == "yaml" {
					write = writeYAML
				}
				return errors.Join(write(a.Out, checks), err)
			}
			for _, c := range checks {
				mark := string(c.Level)
				if c.Level != levelOK {
					mark = strings.ToUpper(mark)
				}
				line := fmt.Sprintf("%-6s%-12s %s\n", mark, c.Step, printable(c.Detail))
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

// verdict is an error when a check failed.
func verdict(checks []check) error {
	failed := 0
	for _, c := range checks {
		if c.Level == levelFail {
			failed++
		}
	}
	if failed == 0 {
		return nil
	}
	return fail(ExitError, "%d of %s failed", failed, many(len(checks), "check"))
}

// examine checks step by step; the error is that of the first step that makes the others pointless.
func (a *App) examine(ctx context.Context) ([]check, error) {
	c, x, err := a.client()
	if err != nil {
		return []check{checked("context", levelFail, err.Error(), "see the message")}, err
	}
	checks := []check{checked("context", levelOK, x.Name+" at "+x.Server, "")}
	var st api.ClusterStatus
	if err := c.Get(ctx, "/v1/status", &st); err != nil {
		return append(checks, checked("server", levelFail, err.Error(), "see the message")), err
	}
	checks = append(checks, checked("server", levelOK, fmt.Sprintf("skerry-cluster %s of cluster %s, up for %s", st.Version, st.Cluster,
		agent.Span(a.Now().Sub(st.Started.Time()))), ""))
	checks = append(checks, a.checkClock(st), checkBroker(st), checkNodes(st))
	for _, trouble := range st.Trouble { // each line names its cure
		checks = append(checks, checked("trouble", troubleLevel(trouble), trouble, ""))
	}
	if st.Pending > 0 {
		checks = append(checks, checked("approvals", levelWarn, fmt.Sprintf("waiting for approval: %s", many(st.Pending, "device")),
			"skerry get enrollments; skerry approve ID"))
	}
	return checks, nil
}

// troubleLevel tells how bad a line of the cluster agent's trouble is, by its beginning, which docs/operations.md lists.
// One that is not known is taken to stop work.
func troubleLevel(line string) level {
	soon := []string{"clock is not synchronised", "disk is nearly full", "CA certificate ends", "server certificate ends",
		"certificate of the external broker ends", "replica ", "kubernetes is out of reach", "node "}
	begins := func(with string) bool { return strings.HasPrefix(line, with) }
	over := strings.Contains(line, ", in -") // days: a certificate that has ended
	if slices.ContainsFunc(soon, begins) && !over {
		return levelWarn
	}
	return levelFail
}

func (a *App) checkClock(st api.ClusterStatus) check {
	off := a.Now().Sub(st.Now.Time()).Round(time.Second)
	if off.Abs() > 30*time.Second {
		return checked("clock", levelWarn, fmt.Sprintf("this machine and the cluster agent differ by %s", off), "let both follow an NTP server")
	}
	return checked("clock", levelOK, fmt.Sprintf("differs by %s", off), "")
}

func checkBroker(st api.ClusterStatus) check {
	c := checked("broker", levelOK, st.Broker, "")
	if st.Broker != "up" {
		c = checked("broker", levelFail, st.Broker, "see the log of skerry-cluster")
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
	detail := fmt.Sprintf("%d of %d online, %d disconnected, %d lost", st.Nodes[api.PresenceOnline], total,
		st.Nodes[api.PresenceDisconnected], st.Nodes[api.PresenceLost])
	if gone > 0 {
		return checked("nodes", levelFail, detail, "skerry get nodes tells why; on the device: skerry-edge doctor")
	}
	return checked("nodes", levelOK, detail, "")
}
