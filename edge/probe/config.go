package probe

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// The kinds of user probes.
const (
	KindExec       = "exec"
	KindFile       = "file"
	KindPrometheus = "prometheus"
)

// Bounds of a configuration.
const (
	maxUserProbes = 32
	minSeries     = 16
	minInterval   = 100 * time.Millisecond
	maxInterval   = 24 * time.Hour

	wantedInterval = "100ms to 24h"
)

// What is left out unless the configuration says otherwise. File system types and mount points are node_exporter's
// plus what kubelets mount; the disks are its partitions plus those of eMMC cards and flash; veth and its like come and
// go with every container.
const (
	defaultIgnoreMounts = `^/(dev|proc|run/credentials/.+|run/user/.+|run/netns|sys|` +
		`var/lib/docker/.+|var/lib/containers/storage/.+|var/lib/kubelet/.+)($|/)`
	defaultIgnoreFSTypes = `^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|` +
		`iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|ramfs|rootfs|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)$`
	defaultIgnoreDisks   = `^((z?ram|loop|fd|sr|mtdblock|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+|mmcblk\d+(p\d+|boot\d+|rpmb))$`
	defaultIgnoreNetwork = `^(lo|veth.+|cali.+|lxc.+)$`
)

// Config says what to measure. The zero value measures everything built in, every 10 s.
type Config struct {
	Proc, Sys string        // where /proc and /sys are mounted; "" means there
	Interval  time.Duration // between scrapes; 0 means 10 s, less than 0 only when asked (Now)
	Disabled  []string      // built-in probes to leave out
	MaxSeries int           // series of all probes in one scrape, without the two that tell on each probe; 0 means 512
	// MaxCPUs is up to how many CPUs each is told apart; a machine with more gets their sum as cpu="all". 0 means 16.
	MaxCPUs int
	// Regular expressions of what to leave out; "" means the default, "^$" nothing.
	IgnoreMounts, IgnoreFSTypes, IgnoreDisks, IgnoreNetwork string
	User                                                    []UserProbe
}

// UserProbe is a probe that the operator adds. Exec and file give either one number, which becomes Metric times Scale,
// or the Prometheus text format (of which `name value` lines are a part); prometheus always gives the latter.
type UserProbe struct {
	Name        string
	Kind        string        // exec, file or prometheus
	Argv        []string      // exec: absolute path of the program, and its arguments; no shell reads them
	Path        string        // file: absolute path
	URL         string        // prometheus: http or https, on this machine unless AllowRemote
	AllowRemote bool          // prometheus: lets URL name another machine
	Metric      string        // series of a single number; "" means skerry_probe_value{probe="<Name>"}
	Scale       float64       // factor of a single number; 0 means 1
	Interval    time.Duration // rounded to whole scrapes; 0 means every one
	Timeout     time.Duration // 0 means 5 s
	Allow       []string      // regular expressions that a metric's whole name must match one of; none means all
}

// withDefaults returns c with its zero values filled in.
func (c Config) withDefaults() Config {
	fill := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	fill(&c.Proc, "/proc")
	fill(&c.Sys, "/sys")
	fill(&c.IgnoreMounts, defaultIgnoreMounts)
	fill(&c.IgnoreFSTypes, defaultIgnoreFSTypes)
	fill(&c.IgnoreDisks, defaultIgnoreDisks)
	fill(&c.IgnoreNetwork, defaultIgnoreNetwork)
	if c.Interval == 0 {
		c.Interval = 10 * time.Second
	}
	if c.MaxSeries == 0 {
		c.MaxSeries = 512
	}
	if c.MaxCPUs == 0 {
		c.MaxCPUs = 16
	}
	c.User = slices.Clone(c.User)
	for i := range c.User {
		u := &c.User[i]
		fill(&u.Metric, seriesName("skerry_probe_value", "probe", u.Name))
		if u.Scale == 0 {
			u.Scale = 1
		}
		if u.Timeout == 0 {
			u.Timeout = 5 * time.Second
		}
		if u.Interval == 0 {
			u.Interval = max(c.Interval, minInterval)
		}
	}
	return c
}

// Validate reports all faults at once, each with field, value and what was wanted.
func (c Config) Validate() error {
	var errs []error
	c.Faults(func(field string, value any, wanted string) {
		form := "%s %v: wanted %s"
		switch value.(type) {
		case string, []string:
			form = "%s %q: wanted %s"
		}
		errs = append(errs, fmt.Errorf(form, field, value, wanted))
	})
	return errors.Join(errs...)
}

// Faults tells every fault: the field, its value and what was wanted.
func (c Config) Faults(tell func(field string, value any, wanted string)) {
	c = c.withDefaults()
	need := func(ok bool, field string, value any, wanted string) {
		if !ok {
			tell(field, value, wanted)
		}
	}
	need(filepath.IsAbs(c.Proc), "proc", c.Proc, "an absolute path")
	need(filepath.IsAbs(c.Sys), "sys", c.Sys, "an absolute path")
	need((c.Interval < 0 || c.Interval >= minInterval) && c.Interval <= maxInterval, "interval", c.Interval, wantedInterval)
	need(c.MaxSeries >= minSeries && c.MaxSeries <= api.MaxSeries, "max_series", c.MaxSeries, fmt.Sprintf("%d to %d", minSeries, api.MaxSeries))
	need(c.MaxCPUs >= 1 && c.MaxCPUs <= maxCPUs, "max_cpus", c.MaxCPUs, fmt.Sprintf("1 to %d", maxCPUs))
	known := builtinNames()
	for i, name := range c.Disabled {
		need(slices.Contains(known, name), fmt.Sprintf("disabled[%d]", i), name, "one of "+strings.Join(known, ", "))
	}
	expression(tell, "ignore_mounts", c.IgnoreMounts)
	expression(tell, "ignore_fstypes", c.IgnoreFSTypes)
	expression(tell, "ignore_disks", c.IgnoreDisks)
	expression(tell, "ignore_network", c.IgnoreNetwork)
	need(len(c.User) <= maxUserProbes, "user", fmt.Sprint(len(c.User), " probes"), fmt.Sprint("at most ", maxUserProbes))
	for i := range c.User[:min(len(c.User), maxUserProbes)] {
		u, field := &c.User[i], fmt.Sprintf("user[%d].", i)
		u.faults(func(ok bool, of string, value any, wanted string) { need(ok, field+of, value, wanted) })
		same := func(o UserProbe) bool { return o.Name == u.Name }
		need(!slices.Contains(known, u.Name) && !slices.ContainsFunc(c.User[:i], same), field+"name", u.Name, "one that no other probe has")
	}
}

func expression(tell func(field string, value any, wanted string), field, text string) {
	if _, err := regexp.Compile(text); err != nil {
		tell(field, text, "a regular expression: "+err.Error())
	}
}

func (u *UserProbe) faults(need func(ok bool, field string, value any, wanted string)) {
	need(api.ValidID("name", u.Name) == nil, "name", u.Name, "[a-z0-9][a-z0-9.-]{0,62}")
	need(u.Timeout >= time.Millisecond && u.Timeout <= time.Minute, "timeout", u.Timeout, "1ms to 1m")
	need(u.Interval >= minInterval && u.Interval <= maxInterval, "interval", u.Interval, wantedInterval)
	need(validSeries(u.Metric) && len(u.Metric) <= api.MaxSeriesBytes, "metric", u.Metric[:min(len(u.Metric), 80)],
		fmt.Sprintf(`name or name{label="value"}, at most %d bytes`, api.MaxSeriesBytes))
	for i, expr := range u.Allow {
		expression(func(field string, value any, wanted string) { need(false, field, value, wanted) }, fmt.Sprintf("allow[%d]", i), expr)
	}
	need(len(u.Argv) == 0 || u.Kind == KindExec, "argv", u.Argv, "it only with kind exec")
	need(u.Path == "" || u.Kind == KindFile, "path", u.Path, "it only with kind file")
	need(u.URL == "" || u.Kind == KindPrometheus, "url", u.URL, "it only with kind prometheus")
	need(!u.AllowRemote || u.Kind == KindPrometheus, "allow_remote", u.AllowRemote, "it only with kind prometheus")
	switch u.Kind {
	case KindExec:
		need(len(u.Argv) > 0 && len(u.Argv) <= 64 && filepath.IsAbs(u.Argv[0]), "argv", u.Argv, "the absolute path of a program, then up to 63 arguments")
	case KindFile:
		need(filepath.IsAbs(u.Path), "path", u.Path, "an absolute path")
	case KindPrometheus:
		need(u.Scale == 1, "scale", u.Scale, "it only with kind exec or file")
		at, err := url.Parse(u.URL)
		if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" || at.User != nil {
			if err == nil {
				u.URL = at.Redacted()
			}
			need(false, "url", u.URL, "http://host:port/path without a password")
			return
		}
		host := at.Hostname()
		need(u.AllowRemote || host == "localhost" || net.ParseIP(host).IsLoopback(), "url", u.URL, "host localhost, 127.0.0.1 or ::1")
	default:
		need(false, "kind", u.Kind, "exec, file or prometheus")
	}
}
