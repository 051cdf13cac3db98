package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/mqtt"
)

// nodeConnections is how many connections a node may have: one with the session, and those that are about to take it
// over, as when its address changed under it.
const nodeConnections = 4

// register makes p known by its name, unless that name has enough connections.
func (b *Broker) register(p *peer) error {
	limit, name := b.cfg.Limits.ConnectionsEach, p.id.CommonName()
	if p.id.Kind == mqtt.NodeIdentity {
		limit = nodeConnections
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.each[name] >= limit {
		return &refusal{"connections of one", fmt.Errorf("%s has %d", name, limit)}
	}
	b.each[name]++
	b.all[p] = struct{}{}
	return nil
}

// dismiss ends p and forgets it, when everything about it is over.
func (b *Broker) dismiss(p *peer) {
	p.end(nil)
	p.workers.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.all, p)
	name := p.id.CommonName()
	if b.each[name]--; b.each[name] == 0 {
		delete(b.each, name)
	}
	if p.key != "" && b.sessions[p.key] == p {
		delete(b.sessions, p.key)
	}
	close(p.over)
}

// claim makes the session of key p's. It ends an older one and waits until that is over, its will and OnDisconnect
// included: nothing of the old session can follow something of the new one [MQTT-3.1.4-2].
func (b *Broker) claim(ctx context.Context, key string, p *peer) error {
	limit := time.NewTimer(b.cfg.Limits.HandshakeTimeout)
	defer limit.Stop()
	for {
		b.mu.Lock()
		old := b.sessions[key]
		if old == nil {
			p.key = key
			b.sessions[key] = p
			b.mu.Unlock()
			return nil
		}
		b.mu.Unlock()
		old.expel(packets.ErrSessionTakenOver, ErrReplaced)
		select {
		case <-old.over:
		case <-limit.C:
			return errors.New("the old session is still being ended")
		case <-p.gone:
			return errors.New("left while the old session was being ended")
		case <-ctx.Done():
			return fmt.Errorf("wait for the old session: %w", ctx.Err())
		}
	}
}

// depart tidies up behind mochi, which forgets a client only if its session ended in the usual way, and tells the agent.
func (b *Broker) depart(p *peer, err error) {
	cl := p.client.Load()
	if cl == nil || p.key == "" {
		return
	}
	if known, ok := b.server.Clients.Get(p.key); ok && known == cl {
		cl.ClearInflights()
		b.server.UnsubscribeClient(cl)
		b.server.Clients.Delete(p.key)
	}
	reason := p.cause(err)
	b.cfg.Log.Debug("session ended", agent.KeyNode, p.id.CommonName(), agent.KeyReason, reason)
	if p.told && b.cfg.OnDisconnect != nil {
		b.cfg.OnDisconnect(p.id, reason)
	}
}

// forged refuses a publish, and tells the agent of it.
func (b *Broker) forged(reason string, p *peer, err error, topic string) {
	b.refuse(reason, p, err, agent.KeyTopic, topic)
	if b.cfg.OnRefused != nil {
		b.cfg.OnRefused(Refusal{From: p.id, Addr: p.socket.RemoteAddr().String(), Topic: topic, Why: err})
	}
}

// refuse counts and logs something that p wanted and does not get.
func (b *Broker) refuse(reason string, p *peer, err error, more ...any) {
	b.count.refuse(reason)
	args := append([]any{agent.KeyNode, p.id.CommonName(), agent.KeyReason, reason, agent.KeyErr, err}, more...)
	b.lines.warn("client refused", args...)
}
