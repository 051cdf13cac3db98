package cgroup

import "time"

// Usage is what a group uses.
type Usage struct {
	CPU       time.Duration
	Throttled time.Duration
	Memory    uint64 // the working set
	RSS       uint64
	Processes uint64
}

// Usage reads it; what no hierarchy counts is 0.
func (g *Group) Usage() Usage {
	u := Usage{Processes: number(g.read("pids.current"))}
	stat, memory := g.read("cpu.stat"), g.read("memory.stat")
	if raw := g.read("cpuacct.usage"); raw != nil { // version 1, in ns
		u.CPU = time.Duration(min(number(raw), 1<<62))
		u.Throttled = time.Duration(min(field(stat, "throttled_time"), 1<<62))
	} else { // version 2, in µs
		u.CPU = micros(field(stat, "usage_usec"))
		u.Throttled = micros(field(stat, "throttled_usec"))
	}
	if raw := g.read("memory.usage_in_bytes"); raw != nil {
		u.Memory = less(number(raw), field(memory, "total_inactive_file"))
		u.RSS = field(memory, "total_rss")
	} else {
		u.Memory = less(number(g.read("memory.current")), field(memory, "inactive_file"))
		u.RSS = field(memory, "anon")
	}
	return u
}

func micros(n uint64) time.Duration { return time.Duration(min(n, 1<<52)) * time.Microsecond }

func less(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}
