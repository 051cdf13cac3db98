package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/owner"
	"github.com/skerry-edge/skerry/mqtt"
)

// share is this cluster agent's part of the nodes where several share an external broker (docs/adr/0011). Package owner
// decides; this speaks to the broker. One goroutine, Run, deals nodes out; handlers of messages run beside it.
type share struct {
	agent *Agent
	name  string
	wake  chan struct{}

	// uptime is what leases and waits are counted by: nobody sets it, and it goes on while the machine sleeps. What is told is
	// stamped by the cluster agent's time.
	uptime func() time.Duration

	mu      sync.Mutex
	board   *owner.Board
	session *mqtt.Session // nil while there is no link
	number  uint64        // of the session
	beat    uint64
	beatAt  time.Time           // when the last beat was sent
	held    map[string]*holding // nodes that this replica acts for
	watched map[string]bool     // nodes of others whose command statuses are wanted here
	dealt   *mqtt.Session       // in which nodes were dealt out last, and subscribed to; nil: they are let go of
	members []string            // among whom
	dirty   bool                // a node came or went: deal anew
	untold  map[string]bool     // nodes whose admission the others have to hear
	replay  time.Time           // when the broker last repeated a desired document that it keeps
	heard   map[string]uint64   // revisions of the admissions that the broker keeps, by node, in this session
	since   time.Time           // when the session began
	checked bool                // what the broker has forgotten was looked for in this session
}

// holding is a node that this replica acts for.
type holding struct {
	claim  api.Claim
	floor  api.Claim // the greatest claim of others that was seen
	since  time.Time // when the broker was last asked what it keeps of it
	asked  int       // how often that was done again
	clear  bool      // there was nothing more to ask for
	after  time.Time // another replica acts for it as well: not before
	met    uint64    // the node's session that was greeted with claim; 0: none
	told   bool      // the broker's copy of the desired document was seen, or does not come
	stated bool      // a state was heard
}

// now is the time that leases and waits are counted by; it tells no date.
func (s *share) now() time.Time { return time.Unix(0, 0).Add(s.uptime()) }

// lookEvery is how often Run looks without being woken.
const lookEvery = 250 * time.Millisecond

func newShare(a *Agent) *share {
	uptime := a.uptime
	if uptime == nil {
		uptime = agent.SinceBoot
	}
	return &share{agent: a, uptime: uptime, name: a.cfg.Replica.Name, wake: make(chan struct{}, 1), board: owner.NewBoard(a.cfg.Replica.Name, a.cfg.Replica.Timeout),
		held: map[string]*holding{}, watched: map[string]bool{}, untold: map[string]bool{}, heard: map[string]uint64{}}
}

// join makes the link of an external broker that of a replica: a name, a last will, and subscriptions that follow the nodes.
func (s *share) join(cfg *mqtt.LinkConfig) {
	cfg.ClientID = mqtt.Identity{Kind: mqtt.ClusterIdentity, Name: s.name}.CommonName()
	cfg.KeepAlive = max(s.agent.cfg.Replica.Timeout/2, time.Second).Truncate(time.Second)
	cfg.BackoffMax = s.agent.cfg.Replica.Timeout // the nodes of one that comes back late are others' meanwhile; no need to wait longer
	cfg.Subscriptions = []mqtt.Subscription{
		{Filter: s.agent.topics.Filter(mqtt.KindReplica, "+"), Handler: s.onReplica},
		{Filter: s.agent.topics.Filter(mqtt.KindAdmission, "+"), Handler: s.onAdmission},
	}
	for _, kind := range append(s.agent.inbound(), mqtt.KindDesired) {
		cfg.Later = append(cfg.Later, mqtt.Subscription{Filter: s.agent.topics.Filter(kind, "+"), Handler: s.onMessage})
	}
	cfg.Begin, cfg.Announce, cfg.Goodbye, cfg.OnDown = s.begin, s.announce, s.goodbye, func(error) { s.end() }
}

// begin opens a session with a number above any before it.
func (s *share) begin(context.Context) (mqtt.Outbound, error) {
	s.end() // of one that was over before it was up, nobody was told
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number, s.beat = max(s.number+1, uint64(s.agent.clock.Now().UnixMilli())), 0
	s.heard = map[string]uint64{} // before the broker's own arrive
	return s.word(api.ReplicaLost)
}

// word is a presence message of this session. Caller holds mu.
func (s *share) word(state api.ReplicaState) (mqtt.Outbound, error) {
	url := ""
	if all := s.agent.endpoints(s.agent.https.Addr()); len(all) > 0 {
		url = all[0]
	}
	signed, err := mqtt.Seal(s.agent.authority.OrderSigner(), mqtt.KindReplica, &api.Replica{Cluster: s.agent.cfg.Cluster, Replica: s.name,
		Session: s.number, Beat: s.beat, State: state, At: api.At(s.agent.clock.Now()), URL: url})
	if err != nil {
		return mqtt.Outbound{}, err
	}
	payload, err := json.Marshal(signed)
	return mqtt.Outbound{Topic: s.agent.topics.Of(mqtt.KindReplica, s.name, ""), Payload: payload, Retain: true}, err
}

// announce sends the first beat of a session.
func (s *share) announce(ctx context.Context, session *mqtt.Session) error {
	sent, err := s.pulse(ctx, session)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.session = session
	s.since, s.checked = s.now(), false
	s.board.Connected(s.number, sent, s.since)
	s.mu.Unlock()
	s.agent.setBroker(true)
	s.poke()
	return nil
}

// pulse sends a beat and waits for the broker's word that it has it.
func (s *share) pulse(ctx context.Context, session *mqtt.Session) (sent time.Time, err error) {
	s.mu.Lock()
	s.beat++
	sent = s.now()
	s.beatAt = sent
	m, err := s.word(api.ReplicaLive)
	s.mu.Unlock()
	if err != nil {
		return sent, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.board.Lease())
	defer cancel()
	return sent, session.Publish(ctx, m.Topic, m.Payload, m.Retain)
}

// goodbye lets the others take over at once.
func (s *share) goodbye() (mqtt.Outbound, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beat++
	m, err := s.word(api.ReplicaLeaving)
	if err != nil {
		s.agent.log.Warn("goodbye not signed", agent.KeyErr, err)
	}
	return m, err == nil
}

// end lets go of everything when the link is down.
func (s *share) end() {
	s.mu.Lock()
	s.session = nil
	s.board.Disconnected()
	s.mu.Unlock()
	s.agent.setBroker(false)
	s.poke()
}

// poke has Run look again. It never blocks: one pending look covers all.
func (s *share) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run deals nodes out and greets them, and sends beats, until ctx ends.
func (s *share) Run(ctx context.Context) error {
	var beating sync.WaitGroup
	defer beating.Wait()
	beating.Go(func() { s.beats(ctx) }) // apart, for to deal thousands of nodes out takes longer than a beat
	s.releaseAll(ctx, nil)              // nothing is this one's yet
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.releaseAll(context.WithoutCancel(ctx), nil)
			return nil
		case <-s.wake:
		case <-tick.C:
		}
		s.round(ctx)
	}
}

// beats says that this replica is live for as long as it has a session.
func (s *share) beats(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		session, due := s.session, s.now().Sub(s.beatAt) >= s.board.Beat()
		s.mu.Unlock()
		if session == nil || !due {
			continue
		}
		sent, err := s.pulse(ctx, session)
		if err != nil && ctx.Err() == nil {
			s.agent.log.Warn("presence of this replica not told", agent.KeyErr, err)
		}
		if err == nil {
			s.mu.Lock()
			if s.session == session { // of the one before, nobody waits for a beat
				s.board.Beaten(sent)
			}
			s.mu.Unlock()
		}
	}
}

// perRound bounds what is told in one round, before it is looked again whether the nodes have to be dealt out anew.
const perRound = 200

// round does what is due.
func (s *share) round(ctx context.Context) {
	s.mu.Lock()
	session, view := s.session, s.board.View(s.now())
	anew := s.dirty || s.dealt == nil || !slices.Equal(view.Members, s.members)
	over := s.dealt != nil && (s.dealt != session || !view.Acting)
	s.mu.Unlock()
	if over {
		s.releaseAll(ctx, session)
	}
	if session == nil || !view.Acting {
		return
	}
	var err error
	if anew || over {
		err = s.deal(ctx, session, view.Members)
	}
	s.giveUp()
	if err == nil {
		err = s.askAgain(ctx, session)
	}
	if err == nil {
		err = s.meetAll(ctx)
	}
	if err == nil {
		err = s.tellAdmissions(ctx, session)
	}
	if err != nil && ctx.Err() == nil {
		session.End(fmt.Errorf("share of the nodes: %w", err)) // begun anew with the next session
	}
}
