package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/doctor"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/edge/probe"
	"github.com/skerry-edge/skerry/edge/store"
)

func (d *Door) doctor(ctx context.Context, there found, f *flags) (int, error) {
	floor := agent.BuildTime()
	clock := agent.NewClock(floor, agent.ClockSource{})
	running, askErr := askStatus(ctx, there.RuntimeDir)
	if askErr != nil {
		running = nil
	}
	p := &doctor.Patient{Clock: clock, Dirs: []string{there.Dir, there.RuntimeDir}, ConfigFault: there.fault}
	if floor, raw, err := store.Peek(there.Dir); err == nil { // a running agent holds the file, and knows better anyway
		clock.Raise(floor)
		p.ConfigNote = there.lay(raw)
	}
	cfg := there.Edge
	p.ConfigNote = f.file + p.ConfigNote
	if there.fault == nil {
		if err := missing(there.src); err != nil {
			p.ConfigNote += "; run takes it, but something is missing: " + oneLine(err)
		}
	}
	p.Client, p.Node, p.Brokers = &identity.Client{Clock: clock, Host: probe.HostInfo(cfg.Telemetry.Proc, cfg.Telemetry.Sys)}, cfg.Node, cfg.MQTT.Servers
	p.Agent = func(ctx context.Context) doctor.Finding { return examineAgent(ctx, cfg, running, askErr) }
	path, ok := strings.CutPrefix(cfg.Join, "@")
	if !ok {
		path = `a file, and join: "@FILE" to ` + f.file
	}
	p.PutJoin = "here: write it to " + path + " (0600) and restart skerry-edge" // not run --join: a second agent, and others read arguments
	id, err := identity.Load(cfg.Dir)
	switch {
	case err == nil && id.Enrolled():
		clock.Raise(id.Leaf().NotBefore)
		p.Identity = id
		if running == nil {
			break
		}
		p.Running = true
		p.ConfigNote += "; the running agent says: " + running.Config
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

// lay lays settings that were made remotely over what was found, as run would, and tells what came of it.
func (f *found) lay(raw []byte) string {
	var o overlays
	if len(raw) == 0 || f.fault != nil {
		return ""
	}
	err := json.Unmarshal(raw, &o)
	src := f.src
	if src.Overlay = o.Current; o.Trial != nil {
		src.Overlay = o.Trial
	}
	if err == nil {
		var cfg configs.Edge
		if cfg, err = load(src); err == nil {
			f.Edge = cfg
			return ", and what was set remotely"
		}
	}
	return "; what was set remotely is left out at a start: " + oneLine(err)
}

// examineAgent tells whether an agent runs, and whether what it measures gets anywhere.
func examineAgent(ctx context.Context, cfg configs.Edge, running *Status, askErr error) doctor.Finding {
	if running == nil {
		return doctor.Finding{Exit: doctor.ExitAgent, Detail: "no agent is at work here", Seen: askErr.Error(), Wanted: "a running skerry-edge",
			Cure: "start the service: systemctl start skerry-edge, or /etc/init.d/skerry-edge start; when it ends at once, its log tells why: " +
				"journalctl -u skerry-edge, or logread"}
	}
	f := doctor.Finding{Detail: fmt.Sprintf("pid %d, up for %s", running.PID, running.age(running.Started))}
	before := running.Backlog.Dropped
	if before.Samples+before.Events+before.Alarms == 0 {
		return f
	}
	f.Detail += fmt.Sprintf("; %d samples and %d events were dropped since it first ran", before.Samples, before.Events+before.Alarms)
	if !agent.Wait(ctx, min(cfg.Telemetry.Interval+time.Second, 8*time.Second)) {
		return f
	}
	now, err := askStatus(ctx, cfg.RuntimeDir)
	if err != nil || now.Backlog.Dropped == before {
		return f
	}
	d := now.Backlog.Dropped
	return doctor.Finding{Exit: doctor.ExitAgent, Detail: "the running agent drops what it measures", Wanted: "none",
		Seen: fmt.Sprintf("%d samples and %d events within the last seconds, %d samples in all", d.Samples-before.Samples,
			d.Events+d.Alarms-before.Events-before.Alarms, d.Samples),
		Cure: "its log tells why; make room in " + cfg.Dir + " and " + cfg.RuntimeDir + ", or raise outbox.max_bytes"}
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
