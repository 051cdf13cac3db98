package cluster

import (
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/telemetry"
)

// How long before its end a certificate is trouble. The CA's is made once and outlives most devices, so its end takes
// planning; a server's is made anew at two thirds of its 90 days, so one that comes so near its end was not.
const (
	caNotice     = 365 * 24 * time.Hour
	serverNotice = 14 * 24 * time.Hour
	brokerNotice = 30 * 24 * time.Hour // a person has to do it, every 60 days
)

// health is what there is to know about what may go wrong, as of Now.
type health struct {
	Now     time.Time
	PutOff  string // why telemetry is put off; empty: it is not
	Stray   string // how the machine's clock is off; empty: it is not
	Disk    telemetry.Disk
	DiskErr error
	Remotes []telemetry.RemoteFault
	CA      time.Time // ends of certificates; zero: not known
	Server  time.Time
	Broker  time.Time // of an external one
	Silent  []string  // nodes that are online and send no telemetry
	Synced  bool      // the kernel says that something disciplines the clock
}

// health collects. It is cheap enough for every question about the status.
func (a *Agent) health() health {
	h := health{Now: a.clock.Now(), PutOff: a.deferral.trouble(), Stray: a.clock.Stray(), Remotes: a.telemetry.RemoteFaults()}
	h.Silent = a.registry.Silent(h.Now)
	h.Disk, h.DiskErr = a.telemetry.Disk()
	for _, root := range a.authority.Roots() {
		if root.NotAfter.After(h.CA) {
			h.CA = root.NotAfter
		}
	}
	if cert, err := a.listener.GetCertificate(nil); err == nil && cert.Leaf != nil {
		h.Server = cert.Leaf.NotAfter
	}
	if ends := a.brokerEnds.Load(); ends > 0 {
		h.Broker = time.Unix(ends, 0)
	}
	_, quality := agent.NewClock(time.Time{}, agent.ClockSource{}).Read()
	h.Synced = quality == api.TimeSynced
	return h
}

// trouble says in one line each what the agent cannot do, or soon cannot, and what to do about it.
func (h *health) trouble() (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	const room = "free some there, or keep less (telemetry.retention, telemetry.retention_bytes)"
	if h.Stray != "" {
		say("clock is wrong: %s; set it, and run chronyd, ntpd or systemd-timesyncd", h.Stray)
	}
	switch {
	case h.PutOff != "" && h.Stray != "":
		say("telemetry is put off, and nodes keep theirs: %s", h.PutOff)
	case h.PutOff != "":
		say("telemetry is put off, and nodes keep theirs: %s; %s", h.PutOff, room)
	case h.DiskErr != nil:
		say("disk cannot be looked at: %v; see the log of skerry-cluster", h.DiskErr)
	case h.Disk.Free < 2*h.Disk.Reserve:
		say("disk is nearly full: %d MiB free in %s, and below %d MiB telemetry is put off; %s", h.Disk.Free>>20, h.Disk.Dir, h.Disk.Reserve>>20, room)
	}
	for _, f := range h.Remotes {
		say("remote_write to %s fails since %s: %.200s; samples wait in the log as long as it has room: mend the receiver, or take it out of "+
			"telemetry.remote_write", f.URL, f.Since.UTC().Format(time.RFC3339), f.Err)
	}
	if left := h.CA.Sub(h.Now); !h.CA.IsZero() && left < caNotice {
		say("CA certificate ends at %s, in %d days: every device has to join a new CA before; move ca.* away, restart skerry-cluster, and "+
			"join them with new tokens", h.CA.UTC().Format(time.DateOnly), int(left.Hours()/24))
	}
	if left := h.Server.Sub(h.Now); !h.Server.IsZero() && left < serverNotice {
		say("server certificate ends at %s, in %d days, and was not made anew: see CA and clock, then restart skerry-cluster",
			h.Server.UTC().Format(time.DateOnly), int(left.Hours()/24))
	}
	if left := h.Broker.Sub(h.Now); !h.Broker.IsZero() && left < brokerNotice {
		say("certificate of the external broker ends at %s, in %d days, and then no device gets in: run skerry-cluster broker-config, as in "+
			"docs/operations.md, and have the broker read it", h.Broker.UTC().Format(time.DateOnly), int(left.Hours()/24))
	}
	if n := len(h.Silent); n > 0 && h.PutOff == "" { // while it is put off nodes are asked to wait
		more := ""
		if n > 1 {
			more = fmt.Sprintf(", as are %d more,", n-1)
		}
		say("node %s is online%s and sends no telemetry for several of its intervals: see its alarms (skerry get events), the disks and the log of its agent",
			h.Silent[0], more)
	}
	if !h.Synced && h.Stray == "" {
		say("clock is not synchronised: deadlines, certificates and the time that devices are given follow it; run chronyd, ntpd or systemd-timesyncd")
	}
	return out
}
