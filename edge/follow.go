package edge

import (
	"slices"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/edge/identity"
)

// renewed passes a renewal on. What is built later is built with the identity of then.
func (a *Agent) renewed(old, next *identity.Identity) {
	if a.built.Load() {
		a.settings.renewed(old, next)
	}
}

// renewed has Run follow the cluster when a renewal told of other brokers.
func (s *settings) renewed(old, next *identity.Identity) {
	if slices.Equal(old.MQTT, next.MQTT) {
		return
	}
	s.mu.Lock()
	s.moved = true
	s.mu.Unlock()
	s.rouse()
}

// follow makes the link anew where its servers are those that the identity names.
func (s *settings) follow() {
	s.one.Lock() // a trial goes on with the link that it has
	defer s.one.Unlock()
	cfg := s.effective()
	if len(cfg.MQTT.Servers) > 0 {
		return
	}
	if _, err := s.agent.line.use(cfg); err != nil {
		s.agent.log.Error("brokers that the cluster named are not used", agent.KeyErr, err)
	}
}
