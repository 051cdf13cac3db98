package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/mqtt"
)

// set is the verb config.set.
func (s *settings) set(ctx context.Context, cmd *api.Command, patch map[string]any) (map[string]any, error) {
	left := cmd.Deadline.Time().Sub(s.agent.clock.Now())
	left = min(left, time.Duration(cmd.Deadline-cmd.Issued)*time.Millisecond) // this node's clock may be behind
	return s.apply(ctx, change{patch: patch, left: max(left, 1), command: cmd.ID})
}

// change is what somebody wants of the settings: a patch of what was set remotely before, or, with the generation of a
// desired document, all that is set remotely. Left is what a command has until its deadline, and command its id.
type change struct {
	patch      map[string]any
	generation uint64
	left       time.Duration
	command    string
}

// apply validates a change whole and puts it in force. It returns what was set.
func (s *settings) apply(ctx context.Context, c change) (map[string]any, error) {
	s.one.Lock()
	defer s.one.Unlock()
	defer s.agent.oweReport() // whatever comes of it
	s.resume(ctx)
	if c.command != "" && c.command == s.resumed.command { // it is done anew, and was done
		return c.patch, s.resumed.err
	}
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
	refused := s.permitted(flat)
	for key, value := range flat {
		next[key] = value
		if value == nil {
			delete(next, key)
		}
	}
	cfg, err := s.load(next)
	if flat["labels"] != nil {
		refused = errors.Join(refused, goodLabels(cfg.Labels))
	}
	if err := errors.Join(refused, err); err != nil {
		return nil, errors.Join(s.reject(err), s.note(kept))
	}
	if reflect.DeepEqual(cfg.MQTT, old.MQTT) {
		if err := s.exchange(old, cfg, overlays{Current: next, Generation: kept.Generation}); err != nil {
			return nil, err
		}
		s.outcome("applied", nil)
		return flat, nil
	}
	window, err := s.trial.within(c.left)
	if err != nil {
		return nil, errors.Join(s.reject(err), s.note(kept))
	}
	on := overlays{Current: kept.Current, Trial: next, Until: api.At(s.agent.clock.Now().Add(window)), Command: c.command, Generation: kept.Generation}
	if err := s.exchange(old, cfg, on); err != nil {
		return nil, err
	}
	if _, err := s.agent.line.use(cfg); err != nil {
		return nil, errors.Join(s.reject(err), s.rollBack(err))
	}
	return s.prove(ctx, next, window)
}

// exchange puts cfg in force and then keeps what it is made of. When either fails, the settings from before are in force, and what was
// kept is as it was: nothing is kept that could not be used.
func (s *settings) exchange(old, cfg configs.Edge, o overlays) error {
	err := s.putInForce(cfg)
	if err == nil {
		err = s.keep(o)
	}
	if err == nil {
		s.agent.event(api.ClassEvent, "config.applied", "", "settings changed")
		return nil
	}
	err = fmt.Errorf("rolled back: %w", err)
	s.outcome("rolled-back", err)
	s.agent.event(api.ClassAlarm, "config.rolled-back", "", clip(oneLine(err)))
	return errors.Join(err, s.putInForce(old))
}

// permitted refuses what cannot be set remotely, and what would have no effect, and takes it out of flat.
func (s *settings) permitted(flat map[string]any) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(flat)) {
		why := "cannot be set remotely: " + configs.WhyNotRemote(key)
		if slices.Contains(configs.RemoteKeys(), key) {
			by := s.agent.src.Overridden(key, configs.EdgeEnvPrefix)
			if by == "" {
				continue
			}
			why = "is fixed on the device by " + by + ", which wins; take that away first"
		}
		errs = append(errs, fmt.Errorf("%s %s", key, why))
		delete(flat, key)
	}
	return errors.Join(errs...)
}

// goodLabels refuses what the cluster agent would leave out. A device whose file has such labels comes online without them.
func goodLabels(list []string) error {
	var errs []error
	had := map[string]bool{}
	for _, l := range list {
		key, value, _ := strings.Cut(l, "=")
		if errs = append(errs, api.ValidLabel("labels", key, value)); had[key] {
			errs = append(errs, fmt.Errorf("labels %q: wanted each key once", l))
		}
		had[key] = true
	}
	return errors.Join(errs...)
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
