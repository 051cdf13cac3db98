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
// with it: when it has not within trialWindow, or the agent was killed meanwhile and cannot connect after its start, the
// old settings come back by themselves.
type settings struct {
	agent *Agent
	wake  chan struct{} // a desired configuration waits

	one sync.Mutex // one change at a time

	mu      sync.Mutex
	cfg     configs.Edge
	kept    overlays
	status  api.ConfigStatus
	pending map[string]any // desired, not yet looked at
}

// overlays is what the store keeps. Trial is set while a change of the link has not proved itself.
type overlays struct {
	Current map[string]any `json:"current"`
	Trial   map[string]any `json:"trial,omitempty"`
}

// trialWindow is how long a change of the link may take to connect.
const trialWindow = 90 * time.Second

func newSettings(a *Agent) (*settings, error) {
	s := &settings{agent: a, wake: make(chan struct{}, 1), cfg: a.cfg}
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
	s.setStatus("applied", "")
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

func (s *settings) state() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept.Trial != nil {
		return "trial"
	}
	return s.status.State
}

func (s *settings) report() api.ConfigStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *settings) setStatus(state, reason string) {
	raw, err := json.Marshal(s.kept.Current)
	if err != nil {
		raw = nil
	}
	sum := sha256.Sum256(raw)
	s.status = api.ConfigStatus{State: state, Hash: hex.EncodeToString(sum[:]), Reason: reason}
}

// Run finishes a trial that a restart interrupted, then applies desired configurations as they come.
func (s *settings) Run(ctx context.Context) error {
	s.mu.Lock()
	trial := s.kept.Trial
	s.mu.Unlock()
	if trial != nil {
		s.one.Lock()
		_, err := s.prove(ctx, trial)
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
		patch := s.pending
		s.pending = nil
		s.mu.Unlock()
		if patch == nil {
			continue
		}
		if _, err := s.apply(ctx, patch, true); err != nil && ctx.Err() == nil {
			s.agent.log.Warn("desired configuration not applied", agent.KeyErr, err)
		}
	}
}

// desire has Run lay a desired configuration over the file, in place of what was set before.
func (s *settings) desire(config map[string]any) {
	if config == nil {
		return
	}
	s.mu.Lock()
	s.pending = config
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}

// set is the verb config.set.
func (s *settings) set(ctx context.Context, patch map[string]any) (map[string]any, error) {
	return s.apply(ctx, patch, false)
}

// apply lays patch over the settings in force (or over nothing, with whole), validates the result, and puts it in
// force. It returns what has changed.
func (s *settings) apply(ctx context.Context, patch map[string]any, whole bool) (map[string]any, error) {
	s.one.Lock()
	defer s.one.Unlock()
	flat := map[string]any{}
	flatten("", patch, flat)
	for key := range flat {
		if !slices.Contains(configs.RemoteKeys(), key) {
			return nil, s.reject(fmt.Errorf("%s cannot be set remotely; these can: %v", key, configs.RemoteKeys()))
		}
	}
	s.mu.Lock()
	next := map[string]any{}
	if !whole {
		maps.Copy(next, s.kept.Current)
	}
	old := s.cfg
	s.mu.Unlock()
	for key, value := range flat {
		next[key] = value
		if value == nil {
			delete(next, key)
		}
	}
	cfg, err := s.load(next)
	if err != nil {
		return nil, s.reject(err)
	}
	if reflect.DeepEqual(cfg.MQTT, old.MQTT) {
		if err := s.keep(overlays{Current: next}); err != nil {
			return nil, err
		}
		return flat, s.putInForce(cfg)
	}
	s.mu.Lock()
	current := s.kept.Current
	s.mu.Unlock()
	if err := s.keep(overlays{Current: current, Trial: next}); err != nil {
		return nil, err
	}
	if err := s.putInForce(cfg); err != nil {
		return nil, err
	}
	if _, err := s.agent.line.use(cfg); err != nil {
		return nil, errors.Join(s.reject(err), s.rollBack(err))
	}
	return s.prove(ctx, next)
}

func (s *settings) reject(err error) error {
	s.mu.Lock()
	s.setStatus("rejected", err.Error())
	s.mu.Unlock()
	return fmt.Errorf("%w: %w", command.ErrRejected, err)
}

// prove waits until the node has connected with the trial, and makes it the rule, or takes it back. The end of ctx (a
// deadline, or the agent's stop) leaves a trial as it is when the agent stops, and takes it back otherwise.
func (s *settings) prove(ctx context.Context, trial map[string]any) (map[string]any, error) {
	link, _ := s.agent.line.current()
	wctx, cancel := context.WithTimeout(ctx, trialWindow)
	defer cancel()
	err := link.AwaitUp(wctx)
	if err == nil {
		return trial, s.keep(overlays{Current: trial})
	}
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return nil, fmt.Errorf("settings are still on trial: %w", context.Cause(ctx))
	}
	cause := fmt.Errorf("node did not connect with them within %s: %s", trialWindow, link.Status().LastError)
	return nil, errors.Join(cause, s.rollBack(cause))
}

// rollBack puts the settings from before the trial in force.
func (s *settings) rollBack(cause error) error {
	s.mu.Lock()
	current := s.kept.Current
	s.mu.Unlock()
	cfg, err := s.load(current)
	if err != nil {
		cfg = s.agent.cfg
	}
	err = s.keep(overlays{Current: current})
	s.mu.Lock()
	s.setStatus("rolled-back", cause.Error())
	s.mu.Unlock()
	err = errors.Join(err, s.putInForce(cfg))
	if _, uerr := s.agent.line.use(cfg); uerr != nil {
		err = errors.Join(err, uerr)
	}
	s.agent.event(api.ClassAlarm, "config.rolled-back", "", cause.Error())
	return err
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
	s.setStatus("applied", "")
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
	a.encoding.Store(uint32(enc))
	s.mu.Lock()
	s.cfg = cfg
	s.mu.Unlock()
	a.event(api.ClassEvent, "config.applied", "", "settings changed")
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
