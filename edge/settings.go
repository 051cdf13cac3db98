package edge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"sync"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
)

// settings is the configuration in force: that of the file with what was set remotely laid over it. A change is
// validated whole, kept, and applied without a restart. A change of the link is on trial until the node has connected
// with it: when it has not within its trialTimes, or the agent was killed meanwhile and cannot connect after its start, the
// old settings come back by themselves.
type settings struct {
	agent *Agent
	wake  chan struct{} // a desired configuration waits
	trial trialTimes
	read  func(configs.Source) (configs.Edge, error) // load; tests set it
	left  string                                     // what of the settings was left out at the start, and why; empty: nothing

	one     sync.Mutex // one change at a time
	resumed struct {   // what came of a trial that a restart interrupted
		command string
		err     error
	}

	mu      sync.Mutex
	cfg     configs.Edge
	kept    overlays
	status  api.ConfigStatus
	pending *desiredConfig  // not yet looked at
	moved   bool            // the cluster has other brokers now; not yet looked at
	life    context.Context // of Run; nil before it
}

// desiredConfig is the configuration of a desired document.
type desiredConfig struct {
	config     map[string]any
	generation uint64
}

// overlays is what the store keeps. Trial is set while a change of the link has not proved itself.
type overlays struct {
	Current map[string]any `json:"current"`
	Trial   map[string]any `json:"trial,omitempty"`
	Until   api.Millis     `json:"until,omitempty"`   // the trial's end
	Command string         `json:"command,omitempty"` // the id of the command that began it
	// Generation is that of the desired document whose configuration was looked at last, whatever came of it.
	Generation uint64 `json:"generation,omitempty"`
}

// phase is how the settings stand while nothing has gone wrong.
func (o overlays) phase() string {
	if o.Trial != nil {
		return "trial"
	}
	return "applied"
}

func newSettings(a *Agent) (*settings, error) {
	s := &settings{agent: a, wake: make(chan struct{}, 1), trial: defaultTrial(), cfg: a.cfg, read: load}
	raw, err := a.store.Overlay()
	if err != nil {
		return nil, err
	}
	if raw != nil {
		if err := json.Unmarshal(raw, &s.kept); err != nil {
			s.leaveOut(err)
			s.kept = overlays{}
		}
	}
	s.choose()
	s.stand()
	return s, nil
}

// choose takes up the overlay that was kept. What does not fit, since the file or this program is another one now, is left out:
// nothing that was set from afar may keep the node from its link, by which it can be mended.
func (s *settings) choose() {
	if s.kept.Trial != nil {
		cfg, err := s.load(s.kept.Trial)
		if err == nil {
			s.cfg = cfg
			return
		}
		s.leaveOut(err)
		s.kept.Trial = nil
	}
	cfg, err := s.load(s.kept.Current)
	if err != nil {
		s.leaveOut(err)
		s.kept.Current, s.kept.Generation = nil, 0 // a desired configuration is looked at again
		return
	}
	s.cfg = cfg
}

// leaveOut notes why settings that were kept are not in force.
func (s *settings) leaveOut(err error) {
	s.left = "settings that were made remotely are left out: " + oneLine(err)
	s.agent.log.Error("settings that were made remotely are left out", agent.KeyErr, err)
	s.outcome("rejected", err)
}

// load makes the configuration of an overlay.
func (s *settings) load(overlay map[string]any) (configs.Edge, error) {
	src := s.agent.src
	src.Overlay = overlay
	return s.read(src)
}

// missing is the same of every overlay: what may be missing cannot be set remotely.
func (s *settings) missing() error { return missing(s.agent.src) }

func (s *settings) effective() configs.Edge {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg
}

// state tells how the settings stand, and what came of the last change when that is not in force.
func (s *settings) state() string {
	r := s.report()
	if r.Reason != "" {
		return r.State + "; " + r.Reason
	}
	return r.State
}

func (s *settings) report() api.ConfigStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// stand notes what is in force. Caller holds mu, or is alone.
func (s *settings) stand() {
	raw, err := json.Marshal(s.kept.Current)
	if err != nil {
		raw = nil
	}
	sum := sha256.Sum256(raw)
	s.status.State, s.status.Hash = s.kept.phase(), hex.EncodeToString(sum[:])
}

// outcome notes what came of the last change; cause is why it is not in force. That changes nothing of what is.
func (s *settings) outcome(last string, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Last, s.status.Reason = last, ""
	if cause != nil {
		s.status.Reason = clip("last change " + last + ": " + oneLine(cause))
	}
}

// oneLine writes an error that joins several.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// Run finishes a trial that a restart interrupted, then applies desired configurations as they come.
func (s *settings) Run(ctx context.Context) error {
	if s.left != "" {
		s.agent.event(api.ClassAlarm, "config.left-out", "", clip(s.left))
	}
	if err := s.missing(); err != nil {
		s.agent.log.Warn("what the configuration names is missing", agent.KeyErr, oneLine(err))
		s.agent.event(api.ClassAlarm, "config.missing", "", clip("what needs it does not work until it is there: "+oneLine(err)))
	}
	s.mu.Lock()
	s.life = ctx
	s.mu.Unlock()
	s.one.Lock()
	s.resume(ctx)
	s.one.Unlock()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
		s.mu.Lock()
		next, moved := s.pending, s.moved
		s.pending, s.moved = nil, false
		s.mu.Unlock()
		if moved {
			s.follow()
		}
		if next == nil {
			continue
		}
		if _, err := s.apply(ctx, change{patch: next.config, generation: next.generation}); err != nil && ctx.Err() == nil {
			s.agent.log.Warn("desired configuration not applied", agent.KeyErr, err)
		}
	}
}

// desire has Run lay a desired configuration over the file, in place of what was set before.
// One that was looked at before, in this life of the agent or an earlier one, is left alone.
func (s *settings) desire(d *api.Desired) {
	s.mu.Lock()
	known := d.Config == nil || s.kept.Generation == d.Generation
	if !known {
		s.pending = &desiredConfig{d.Config, d.Generation}
	}
	s.mu.Unlock()
	if !known {
		s.rouse()
	}
}

func (s *settings) rouse() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}
