package probe

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/shirou/gopsutil/v4/disk"
	"golang.org/x/sys/unix"
)

// env is what built-in probes are made from. buf is shared by the fast ones, which are read one after the other.
type env struct {
	cfg   Config // with defaults
	buf   *scratch
	now   func() time.Time
	uname func(*unix.Utsname) error
	usage func(ctx context.Context, path string) (*disk.UsageStat, error)
	self  func() []Sample

	ignoreMounts, ignoreFSTypes, ignoreDisks, ignoreNetwork *regexp.Regexp
}

// newEnv compiles a configuration that was validated.
func newEnv(cfg Config) (*env, error) {
	e := &env{cfg: cfg, buf: new(scratch), now: time.Now, uname: unix.Uname, usage: disk.UsageWithContext}
	for _, r := range []struct {
		into **regexp.Regexp
		expr string
	}{
		{&e.ignoreMounts, cfg.IgnoreMounts}, {&e.ignoreFSTypes, cfg.IgnoreFSTypes},
		{&e.ignoreDisks, cfg.IgnoreDisks}, {&e.ignoreNetwork, cfg.IgnoreNetwork},
	} {
		compiled, err := regexp.Compile(r.expr)
		if err != nil {
			return nil, fmt.Errorf("compile %q: %w", r.expr, err)
		}
		*r.into = compiled
	}
	return e, nil
}

// builtin is a probe that comes with the agent. A slow one may wait for hardware or a network and so gets a goroutine
// while it is read.
type builtin struct {
	name string
	make func(*env) Probe
	slow bool
}

// builtins are in the order of a scrape.
func builtins() []builtin {
	return []builtin{
		{"self", newSelf, false},
		{"time", newTime, false},
		{"uname", newUname, false},
		{"loadavg", newLoadavg, false},
		{"cpu", newCPU, false},
		{"stat", newStat, false},
		{"meminfo", newMeminfo, false},
		{"vmstat", newVMStat, false},
		{"pressure", newPressure, false},
		{"diskstats", newDisk, false},
		{"netdev", newNetwork, false},
		{"filesystem", newFilesystem, true},
		{"hwmon", newHwmon, true},
		{"thermal_zone", newThermal, true},
	}
}

func builtinNames() []string {
	var names []string
	for _, b := range builtins() {
		names = append(names, b.name)
	}
	return names
}
