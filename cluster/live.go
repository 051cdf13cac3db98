package cluster

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/command"
	"github.com/skerry-edge/skerry/cluster/feed"
	"github.com/skerry-edge/skerry/cluster/rest"
	"github.com/skerry-edge/skerry/mqtt"
)

// lastWords is how long a command that has ended may be silent until the rest of what it printed is given up.
const lastWords = 2 * time.Second

// Live orders a command and hands its record and what it prints to take until it has ended. When ctx ends the stream is
// closed and the command goes on: the node keeps the end of the output for its final status.
func (s *streams) Live(ctx context.Context, req api.CommandRequest, who rest.Principal, take func(api.RunEvent) error) error {
	var deadline api.Deadline
	if err := deadline.UnmarshalText([]byte(req.Deadline)); err != nil {
		return badRequest("deadline", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	order := command.Order{ID: req.ID, Node: req.Nodes[0], Verb: req.Verb, Args: req.Args, By: "rest:" + who.Name,
		Deadline: deadline.Resolve(s.agent.clock.Now())}
	sid := ""
	if s.prints(&order) {
		sid = api.NewID()
		order.Args = maps.Clone(order.Args)
		if order.Args == nil {
			order.Args = map[string]any{}
		}
		order.Args["stream"] = sid
		defer s.claim(sid, order.Node)()
	}
	watch := s.agent.journal.Watch(ctx)
	defer watch.Close()
	rec, err := s.agent.order(ctx, order, who)
	if err != nil {
		return err
	}
	if err := take(api.RunEvent{Command: &rec}); err != nil || rec.Final {
		return err
	}
	var pieces chan api.RunEvent
	if sid != "" {
		pieces = make(chan api.RunEvent)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.listen(ctx, sid, pieces)
		}()
		defer func() { cancel(); <-ended }()
	}
	return relay(ctx, watch, rec.ID, pieces, take)
}

// prints reports whether a verb shows what it prints over a stream. Verbs on files take streams too, but for the files'
// content: those have routes of their own.
func (s *streams) prints(o *command.Order) bool {
	if _, taken := o.Args["stream"]; taken || o.Verb == "file.get" || o.Verb == "file.put" {
		return false
	}
	verbs, _ := s.agent.registry.Verbs(o.Node)
	return slices.ContainsFunc(verbs, func(v api.Verb) bool { return v.Name == o.Verb && v.Stream })
}

// claim makes sid a stream of node until the returned function is called. That the node goes away ends nothing: it will
// be back, and the command with it.
func (s *streams) claim(sid, node string) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[sid], s.ends[sid] = node, func(error) {}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.nodes, sid)
		delete(s.ends, sid)
	}
}

// listen passes on what arrives on a stream until it ends, and closes pieces.
func (s *streams) listen(ctx context.Context, sid string, pieces chan<- api.RunEvent) {
	defer close(pieces)
	stream, err := s.mux.Open(ctx, sid)
	if err != nil {
		return // the node keeps the end of the output for its final status
	}
	for {
		channel, data, err := stream.Read(ctx)
		if err != nil {
			_ = stream.Close(context.WithoutCancel(ctx), nil) // the other side closed it, or finds out by itself
			return
		}
		select {
		case pieces <- api.RunEvent{Channel: channel, Data: data}:
		case <-ctx.Done():
		}
	}
}

// relay hands pieces and changes of one command to take until the command has ended and all of its words are out.
func relay(ctx context.Context, watch *feed.Watch[api.CommandRecord], id string, pieces <-chan api.RunEvent, take func(api.RunEvent) error) error {
	var last *api.CommandRecord
	silence := time.NewTimer(lastWords)
	defer silence.Stop()
	for last == nil || pieces != nil {
		select {
		case e, ok := <-pieces:
			if !ok {
				pieces = nil
			} else if err := take(e); err != nil {
				return err
			}
			silence.Reset(lastWords)
		case change, ok := <-watch.Changes():
			if !ok {
				return errors.Join(ctx.Err(), watch.Err())
			}
			if change.Item.ID != id {
				continue
			}
			if !change.Item.Final {
				if err := take(api.RunEvent{Command: &change.Item}); err != nil {
					return err
				}
				continue
			}
			last = &change.Item
			if p := last.Phase; p == api.PhaseRejected || p == api.PhaseExpired { // never said a word
				pieces = nil
			}
			silence.Reset(lastWords)
		case <-silence.C:
			if last != nil {
				pieces = nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return take(api.RunEvent{Command: last})
}

// hangUp tells a node that nobody listens to a stream of its any more, such as after a restart of this agent: it would
// wait for credit until the command's deadline. It answers a frame that waits for an answer, so not one that ends things.
func (s *streams) hangUp(node, sid string, f *api.Frame) {
	if f.Kind == api.FrameClose || f.Kind == api.FrameEnd || api.ValidID("stream", sid) != nil {
		return
	}
	s.mu.Lock()
	taken := s.nodes[sid] != ""
	s.mu.Unlock()
	if taken { // of another node: not this one's business
		return
	}
	payload, err := s.agent.codec.Encode(mqtt.CBOR, &api.Frame{Seq: 1, Kind: api.FrameClose, Error: "nobody listens any more"})
	if err == nil {
		err = s.agent.wire.Publish(s.agent.life, s.agent.topics.Of(mqtt.KindStreamDown, node, sid), payload, false)
	}
	if err != nil {
		s.agent.log.Debug("node not told that nobody listens", agent.KeyNode, node, agent.KeyErr, err)
	}
}
