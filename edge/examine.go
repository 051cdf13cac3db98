package edge

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/doctor"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/edge/probe"
	"github.com/skerry-edge/skerry/edge/store"
)

func (d *Door) doctor(ctx context.Context, cfg configs.Edge, output string) (int, error) {
	floor := agent.BuildTime()
	clock := agent.NewClock(floor, agent.ClockSource{})
	host := probe.HostInfo(cfg.Telemetry.Proc, cfg.Telemetry.Sys)
	p := &doctor.Patient{Clock: clock, Client: &identity.Client{Clock: clock, Host: host}, Node: cfg.Node, Brokers: cfg.MQTT.Servers}
	if p.Node == "" {
		p.Node = identity.FitID(host.Hostname)
	}
	var running *Status
	if st, err := askStatus(ctx, cfg.RuntimeDir); err == nil {
		running = st
	}
	id, err := identity.Load(cfg.Dir)
	switch {
	case err == nil && id.Enrolled():
		clock.Raise(id.Leaf().NotBefore)
		p.Identity = id
		p.Running = running != nil
		if running != nil && !running.Link.Connected {
			p.LinkError = running.Link.LastError
		}
	case err != nil && !identity.IsNone(err):
		p.IdentityFault = err
	default:
		p.Identity = id // its key, when it has begun to enrol
		examineJoin(cfg, running, p)
	}
	if floor, err := store.ReadFloor(cfg.Dir); err == nil { // a running agent holds the file, and knows better anyway
		clock.Raise(floor)
	}
	var writeErr error
	last := doctor.Diagnose(ctx, p, func(f doctor.Finding) {
		if output == "json" {
			writeErr = errors.Join(writeErr, json.NewEncoder(d.Out).Encode(f))
			return
		}
		writeErr = errors.Join(writeErr, f.Write(d.Out))
	})
	return last.Exit, writeErr
}

// examineJoin gives the patient its join string, or what is wrong with it, and what a running agent waits for.
func examineJoin(cfg configs.Edge, running *Status, p *doctor.Patient) {
	if id := p.Identity; id != nil {
		p.Node = id.Node
	}
	join, err := joinOf(cfg)
	if err != nil {
		if e, ok := errors.AsType[*joinError](err); !ok || e.from != "" { // there is one, and it is at fault
			p.JoinFault = err
		}
		return
	}
	p.Join = &join
	p.Clock.Raise(join.Issued.Time())
	if running != nil && strings.HasPrefix(running.Trouble, "waiting for approval") {
		p.Waiting = running.Trouble
	}
}
