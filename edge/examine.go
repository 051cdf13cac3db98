package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/doctor"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/edge/probe"
	"github.com/skerry-edge/skerry/edge/store"
)

func (d *Door) doctor(ctx context.Context, cfg configs.Edge, f *flags) (int, error) {
	floor := agent.BuildTime()
	clock := agent.NewClock(floor, agent.ClockSource{})
	host := probe.HostInfo(cfg.Telemetry.Proc, cfg.Telemetry.Sys)
	p := &doctor.Patient{Clock: clock, Client: &identity.Client{Clock: clock, Host: host}, Node: cfg.Node, Brokers: cfg.MQTT.Servers}
	path, ok := strings.CutPrefix(cfg.Join, "@")
	if !ok {
		path = `a file, and join: "@FILE" to ` + f.file
	}
	p.PutJoin = "here: write it to " + path + " (0600) and restart skerry-edge" // not run --join: a second agent, and others read arguments
	var running *Status
	if st, err := askStatus(ctx, cfg.RuntimeDir); err == nil {
		running = st
	}
	id, err := identity.Load(cfg.Dir)
	switch {
	case err == nil && id.Enrolled():
		clock.Raise(id.Leaf().NotBefore)
		p.Identity = id
		if running == nil {
			break
		}
		p.Running = true
		if running.Trouble != "" {
			p.Note = "; " + running.Trouble
		}
		if !running.Link.Connected {
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
	last := doctor.Diagnose(ctx, p, func(found doctor.Finding) {
		if f.output == "json" {
			writeErr = errors.Join(writeErr, json.NewEncoder(d.Out).Encode(found))
			return
		}
		writeErr = errors.Join(writeErr, found.Write(d.Out))
	})
	return last.Exit, writeErr
}

// examineJoin gives the patient its join string, or what is wrong with it, and what a running agent waits for.
func examineJoin(cfg configs.Edge, running *Status, p *doctor.Patient) {
	join, err := joinOf(cfg)
	if err != nil {
		if e, ok := errors.AsType[*joinError](err); !ok || e.from != "" { // there is one, and it is at fault
			p.JoinFault = err
		}
		return
	}
	p.Join = join
	p.Clock.Raise(join.Issued.Time())
	if running != nil && strings.HasPrefix(running.Trouble, identity.Waiting) {
		p.Waiting = running.Trouble
	}
}

// leave has the cluster remove this node, whether or not its agent runs.
func (d *Door) leave(ctx context.Context, cfg configs.Edge) error {
	id, err := identity.Load(cfg.Dir)
	switch {
	case err != nil && !identity.IsNone(err):
		return err
	case err != nil || !id.Enrolled():
		return errors.New("leave: this node is in no cluster")
	}
	clock := agent.NewClock(agent.BuildTime(), agent.ClockSource{})
	clock.Raise(id.Leaf().NotBefore)
	if err := (&identity.Client{Clock: clock}).Leave(ctx, id); err != nil {
		return fmt.Errorf("leave: %w; who may, removes it there with: skerry node remove %s", err, id.Node)
	}
	d.printf(d.Out, "node %s has left cluster %s; what it has here stays: to join another, stop skerry-edge, remove %s and start it\n", id.Node, id.Cluster, cfg.Dir)
	return nil
}
