package edge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/mqtt"
)

// settings is the configuration in force: that of the file with what was set remotely laid over it. A change is
// validated whole, kept, and applied without a restart. A change of the link is on trial until the node has connected
// with it: when it has not within its trialTimes, or the agent was killed meanwhile and cannot connect after its start, the
// old settings come back by themselves.
type settings struct {
	agent *Agent
	wake  chan struct{} // a desired configuration waits
	trial trialTimes

	one sync.Mutex // one change at a time

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
	s := &settings{agent: a, wake: make(chan struct{}, 1), trial: defaultTrial(), cfg: a.cfg}
	raw, err := a.store.Overlay()
	if err != nil {
		return nil, err
	}
	if raw != nil {
		if err := json.Unmarshal(raw, &s.kept); err != nil {
			a.log.Warn("kept settings are not used", agent.KeyErr, err)
			s.kept = overlays{}
		}
	}
	use := s.kept.Current
	if s.kept.Trial != nil {
		use = s.kept.Trial
	}
	cfg, err := s.load(use)
	if err != nil { // the file has changed under it
		a.log.Warn("settings that were made remotely do not fit the file; the file is used", agent.KeyErr, err)
		cfg = a.cfg
	}
	s.cfg = cfg
	s.stand()
	return s, nil
}

// load makes the configuration of an overlay.
func (s *settings) load(overlay map[string]any) (configs.Edge, error) {
	src := s.agent.src
	src.Overlay = overlay
	return configs.LoadEdge(src)
}

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
	s.mu.Lock()
	s.life = ctx
	trial := s.kept.Trial
	s.mu.Unlock()
	if trial != nil {
		s.one.Lock()
		_, err := s.prove(ctx, trial, s.trial.window)
		s.one.Unlock()
		if err != nil && ctx.Err() == nil {
			s.agent.log.Warn("settings rolled back", agent.KeyErr, err)
		}
	}
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

// set is the verb config.set.
func (s *settings) set(ctx context.Context, cmd *api.Command, patch map[string]any) (map[string]any, error) {
	left := cmd.Deadline.Time().Sub(s.agent.clock.Now())
	left = min(left, time.Duration(cmd.Deadline-cmd.Issued)*time.Millisecond) // this node's clock may be behind
	return s.apply(ctx, change{patch: patch, left: max(left, 1)})
}

// change is what somebody wants of the settings: a patch of what was set remotely before, or, with the generation of a
// desired document, all that is set remotely. Left is what a command has until its deadline.
type change struct {
	patch      map[string]any
	generation uint64
	left       time.Duration
}

// apply validates a change whole and puts it in force. It returns what was set.
func (s *settings) apply(ctx context.Context, c change) (map[string]any, error) {
	s.one.Lock()
	defer s.one.Unlock()
	defer s.agent.oweReport() // whatever comes of it
	s.mu.Lock()
	next, old, kept := map[string]any{}, s.cfg, s.kept
	s.mu.Unlock()
	if c.generation == 0 {
		maps.Copy(next, kept.Current)
	} else {
		kept.Generation = c.generation
	}
	flat := map[string]any{}
	flatten("", c.patch, flat)
	if err := s.permitted(flat); err != nil {
		return nil, errors.Join(s.reject(err), s.note(kept))
	}
	for key, value := range flat {
		next[key] = value
		if value == nil {
			delete(next, key)
		}
	}
	cfg, err := s.load(next)
	if err != nil {
		return nil, errors.Join(s.reject(err), s.note(kept))
	}
	if reflect.DeepEqual(cfg.MQTT, old.MQTT) {
		if err := s.keep(overlays{Current: next, Generation: kept.Generation}); err != nil {
			return nil, err
		}
		if err := s.putInForce(cfg); err != nil {
			return nil, err
		}
		s.outcome("applied", nil)
		return flat, nil
	}
	window, err := s.trial.within(c.left)
	if err != nil {
		return nil, errors.Join(s.reject(err), s.note(kept))
	}
	if err := s.keep(overlays{Current: kept.Current, Trial: next, Generation: kept.Generation}); err != nil {
		return nil, err
	}
	if err := s.putInForce(cfg); err != nil {
		return nil, err
	}
	if _, err := s.agent.line.use(cfg); err != nil {
		return nil, errors.Join(s.reject(err), s.rollBack(err))
	}
	return s.prove(ctx, next, window)
}

// permitted refuses what cannot be set remotely, and what would have no effect.
func (s *settings) permitted(flat map[string]any) error {
	for key := range flat {
		if !slices.Contains(configs.RemoteKeys(), key) {
			return fmt.Errorf("%s cannot be set remotely: %s", key, configs.WhyNotRemote(key))
		}
		if by := s.agent.src.Overridden(key, configs.EdgeEnvPrefix); by != "" {
			return fmt.Errorf("%s is fixed on the device by %s, which wins; take that away first", key, by)
		}
	}
	return nil
}

// note keeps the generation of a desired document that was refused, so that a restart does not try it again.
func (s *settings) note(kept overlays) error {
	s.mu.Lock()
	same := kept.Generation == s.kept.Generation
	s.mu.Unlock()
	if same {
		return nil
	}
	return s.keep(kept)
}

func (s *settings) reject(err error) error {
	s.outcome("rejected", err)
	return fmt.Errorf("%w: %s", command.ErrRejected, oneLine(err))
}

func (s *settings) keep(o overlays) error {
	raw, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("keep settings: %w", err)
	}
	if err := s.agent.store.SetOverlay(raw); err != nil {
		return err
	}
	s.mu.Lock()
	s.kept = o
	s.stand()
	s.mu.Unlock()
	return nil
}

// putInForce applies cfg to everything but the link.
func (s *settings) putInForce(cfg configs.Edge) error {
	a := s.agent
	enc, err := mqtt.ParseEncoding(cfg.MQTT.Encoding)
	if err != nil {
		return err
	}
	if err := a.level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		return fmt.Errorf("log.level: %w", err)
	}
	if err := a.applyTelemetry(cfg); err != nil {
		return err
	}
	if err := a.applyOutbox(cfg.Outbox); err != nil {
		return err
	}
	a.encoding.Store(uint32(enc))
	s.mu.Lock()
	s.cfg = cfg
	s.mu.Unlock()
	a.event(api.ClassEvent, "config.applied", "", "settings changed")
	a.oweBirth()
	return nil
}

// flatten turns nested settings into dotted keys; keys that are dotted already stay.
func flatten(prefix string, in, out map[string]any) {
	for key, value := range in {
		if inner, ok := value.(map[string]any); ok {
			flatten(prefix+key+".", inner, out)
			continue
		}
		out[prefix+key] = value
	}
}
