package probe

import (
	"errors"
	"fmt"
	"maps"
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
	c = c.withDefaults()
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !filepath.IsAbs(c.Proc) || !filepath.IsAbs(c.Sys) {
		fault("proc %q, sys %q: wanted absolute paths", c.Proc, c.Sys)
	}
	if c.Interval >= 0 && c.Interval < minInterval || c.Interval > maxInterval {
		fault("interval %s: wanted %s to %s", c.Interval, minInterval, maxInterval)
	}
	if c.MaxSeries < minSeries || c.MaxSeries > api.MaxSeries {
		fault("maxSeries %d: wanted %d to %d", c.MaxSeries, minSeries, api.MaxSeries)
	}
	if c.MaxCPUs < 1 || c.MaxCPUs > maxCPUs {
		fault("maxCPUs %d: wanted 1 to %d", c.MaxCPUs, maxCPUs)
	}
	known := builtinNames()
	for i, name := range c.Disabled {
		if !slices.Contains(known, name) {
			fault("disabled[%d] %q: wanted one of %s", i, name, strings.Join(known, ", "))
		}
	}
	for field, expr := range maps.All(map[string]string{"ignoreMounts": c.IgnoreMounts, "ignoreFSTypes": c.IgnoreFSTypes,
		"ignoreDisks": c.IgnoreDisks, "ignoreNetwork": c.IgnoreNetwork}) {
		if _, err := regexp.Compile(expr); err != nil {
			fault("%s %q: wanted a regular expression: %w", field, expr, err)
		}
	}
	if len(c.User) > maxUserProbes {
		fault("user has %d probes: wanted at most %d", len(c.User), maxUserProbes)
	}
	for i := range c.User {
		if i >= maxUserProbes {
			break
		}
		field := fmt.Sprintf("user[%d].", i)
		c.User[i].validate(func(format string, args ...any) { fault(field+format, args...) })
		same := func(o UserProbe) bool { return o.Name == c.User[i].Name }
		if slices.Contains(known, c.User[i].Name) || slices.ContainsFunc(c.User[:i], same) {
			fault("%sname %q: wanted one that no other probe has", field, c.User[i].Name)
		}
	}
	return errors.Join(errs...)
}

func (u *UserProbe) validate(fault func(format string, args ...any)) {
	if err := api.ValidID("name", u.Name); err != nil {
		fault("%w", err)
	}
	if u.Timeout < time.Millisecond || u.Timeout > time.Minute {
		fault("timeout %s: wanted 1ms to 1m", u.Timeout)
	}
	if u.Interval < minInterval || u.Interval > maxInterval {
		fault("interval %s: wanted %s to %s", u.Interval, minInterval, maxInterval)
	}
	if !validSeries(u.Metric) || len(u.Metric) > api.MaxSeriesBytes {
		fault(`metric %.80q: wanted name or name{label="value"}, at most %d bytes`, u.Metric, api.MaxSeriesBytes)
	}
	for i, expr := range u.Allow {
		if _, err := regexp.Compile(expr); err != nil {
			fault("allow[%d] %q: wanted a regular expression: %w", i, expr, err)
		}
	}
	foreign := func(kind, field string, set bool) {
		if set && u.Kind != kind {
			fault("%s is set; wanted it only with kind %s", field, kind)
		}
	}
	foreign(KindExec, "argv", len(u.Argv) > 0)
	foreign(KindFile, "path", u.Path != "")
	foreign(KindPrometheus, "url", u.URL != "")
	foreign(KindPrometheus, "allowRemote", u.AllowRemote)
	switch u.Kind {
	case KindExec:
		if len(u.Argv) == 0 || len(u.Argv) > 64 || !filepath.IsAbs(u.Argv[0]) {
			fault("argv %.80q: wanted the absolute path of a program, then up to 63 arguments", u.Argv)
		}
	case KindFile:
		if !filepath.IsAbs(u.Path) {
			fault("path %q: wanted an absolute path", u.Path)
		}
	case KindPrometheus:
		if u.Scale != 1 {
			fault("scale %v: wanted it only with kind exec or file", u.Scale)
		}
		u.validateURL(fault)
	default:
		fault("kind %q: wanted exec, file or prometheus", u.Kind)
	}
}

func (u *UserProbe) validateURL(fault func(format string, args ...any)) {
	at, err := url.Parse(u.URL)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" || at.User != nil {
		fault("url %q: wanted http://host:port/path without a password", u.URL)
		return
	}
	if host := at.Hostname(); !u.AllowRemote && host != "localhost" && !net.ParseIP(host).IsLoopback() {
		fault("url %q: wanted host localhost, 127.0.0.1 or ::1 (or allowRemote)", u.URL)
	}
}
