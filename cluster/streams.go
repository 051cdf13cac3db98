package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/command"
	"github.com/skerry-edge/skerry/cluster/rest"
	"github.com/skerry-edge/skerry/mqtt"
)

// streams carries bytes between callers of REST and nodes. A stream belongs to one node: frames of another are refused,
// whatever stream id it guesses.
type streams struct {
	agent *Agent
	mux   *mqtt.Mux

	mu    sync.Mutex
	nodes map[string]string // by stream id
	ends  map[string]context.CancelCauseFunc
}

// maxStreams bounds the streams of the whole site.
const maxStreams = 1024

func newStreams(a *Agent) *streams {
	s := &streams{agent: a, nodes: map[string]string{}, ends: map[string]context.CancelCauseFunc{}}
	s.mux = mqtt.NewMux(s.send)
	s.mux.MaxStreams = maxStreams
	return s
}

func (s *streams) send(ctx context.Context, sid string, f *api.Frame) error {
	s.mu.Lock()
	node, ok := s.nodes[sid]
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("stream %s: %w", sid, mqtt.ErrNoStream)
	}
	payload, err := s.agent.codec.Encode(mqtt.CBOR, f)
	if err != nil {
		return err
	}
	return s.agent.wire.Publish(ctx, s.agent.topics.Of(mqtt.KindStreamDown, node, sid), payload, false)
}

// deliver takes a frame of a node. A frame of no stream of its is acknowledged and forgotten.
func (s *streams) deliver(node, sid string, f *api.Frame) error {
	s.mu.Lock()
	owner := s.nodes[sid]
	s.mu.Unlock()
	if owner != node {
		s.hangUp(node, sid, f)
		return fmt.Errorf("stream %s of node %s: %w: %w", sid, node, mqtt.ErrNoStream, mqtt.ErrDiscard)
	}
	if err := s.mux.Deliver(sid, f); err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	return nil
}

// closeNode ends the streams of a node that is gone.
func (s *streams) closeNode(node string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sid, n := range s.nodes {
		if n == node {
			s.ends[sid](err)
		}
	}
}

// transfer is a command with a stream.
type transfer struct {
	node string
	verb string
	args map[string]any
	wait time.Duration // deadline
	// journalled, which may be nil, adds to the transaction that journals the command.
	journalled func(*bbolt.Tx) error
}

// journalName is how the journal names who asked.
func journalName(who rest.Principal) string {
	if who.From == viaKube {
		return viaKube + ":" + who.Name
	}
	return "rest:" + who.Name
}

// there is nil when node can hold a conversation now, or when others can tell better why not.
func (s *streams) there(node string) error {
	n, ok := s.agent.registry.Get(node)
	if !ok || n.Presence == api.PresenceOnline || n.Presence == api.PresenceDraining || n.Presence == api.PresenceElsewhere {
		return nil
	}
	return &api.Problem{Status: http.StatusConflict, Title: "node is not connected", Code: "node_offline",
		Detail: fmt.Sprintf("node %s is %s since %s: %s", node, n.Presence, n.Since.Time().UTC().Format(time.RFC3339), n.Reason),
		Cure:   "ask again when skerry get nodes shows it online"}
}

// run commands a node and moves bytes over the stream that the command names, until the command has ended. It returns
// the command's record. When move fails, or ctx ends, the command is cancelled.
func (s *streams) run(ctx context.Context, t transfer, who rest.Principal, move func(context.Context, *mqtt.Stream) error) (api.CommandRecord, error) {
	if err := s.there(t.node); err != nil {
		return api.CommandRecord{}, err
	}
	sid := api.NewID()
	sctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	s.mu.Lock()
	s.nodes[sid], s.ends[sid] = t.node, end
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.nodes, sid)
		delete(s.ends, sid)
	}()
	watch := s.agent.journal.Watch(sctx)
	defer watch.Close()
	t.args["stream"] = sid
	rec, err := s.agent.order(sctx, command.Order{Node: t.node, Verb: t.verb, Args: t.args, By: journalName(who),
		Deadline: s.agent.clock.Now().Add(t.wait), Journalled: t.journalled}, who)
	if err != nil {
		return rec, err
	}
	final := make(chan api.CommandRecord, 1)
	var done sync.WaitGroup
	defer done.Wait()
	defer end(nil)
	done.Go(func() {
		for change := range watch.Changes() {
			if change.Item.ID == rec.ID && change.Item.Final {
				final <- change.Item
				if change.Item.Phase != api.PhaseSucceeded {
					end(fmt.Errorf("command is %s: %s", change.Item.Phase, outcome(&change.Item)))
				}
				return
			}
		}
	})
	stream, err := s.mux.Open(sctx, sid)
	if err == nil {
		err = move(sctx, stream)
		err = errors.Join(err, stream.Close(context.WithoutCancel(sctx), err))
	}
	return s.conclude(ctx, sctx, rec, final, err)
}

// conclude waits for the command's end after its bytes have moved, or cancels it.
func (s *streams) conclude(ctx, sctx context.Context, rec api.CommandRecord, final <-chan api.CommandRecord, err error) (api.CommandRecord, error) {
	if err == nil {
		limit := time.NewTimer(30 * time.Second)
		defer limit.Stop()
		select {
		case rec = <-final:
		case <-ctx.Done():
			err = ctx.Err()
		case <-limit.C:
			err = errors.New("node did not say how it ended")
		}
	}
	if cause := context.Cause(sctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	if err == nil {
		if rec.Phase != api.PhaseSucceeded {
			err = fmt.Errorf("command is %s: %s", rec.Phase, outcome(&rec))
		}
		return rec, err
	}
	if now, _, gerr := s.agent.journal.Get(rec.ID); gerr == nil && !now.Final {
		cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if _, cerr := s.agent.journal.Cancel(cctx, rec.ID, rec.By); cerr != nil && !errors.Is(cerr, command.ErrFinal) {
			err = errors.Join(err, cerr)
		}
	}
	return rec, &api.Problem{Status: http.StatusBadGateway, Title: "node did not do it", Detail: fmt.Sprintf("%s on %s: %v", rec.Verb, rec.Node, err),
		Code: "transfer_failed", Cure: "skerry describe command " + rec.ID}
}

func outcome(rec *api.CommandRecord) string {
	if rec.Status != nil && rec.Status.Reason != "" {
		return rec.Status.Reason
	}
	if n := len(rec.History); n > 0 {
		return rec.History[n-1].Reason
	}
	return ""
}

// files is the REST side of streams.
type files struct{ *streams }

// The deadlines of transfers: a followed log ends by itself some day, a file over a slow link takes its time.
const (
	logDeadline    = time.Minute
	followDeadline = 24 * time.Hour
	fileDeadline   = time.Hour
)

func (f files) Logs(ctx context.Context, q rest.LogQuery, who rest.Principal, w io.Writer) error {
	args := map[string]any{"lines": q.Lines, "follow": q.Follow}
	if q.Source != "" {
		args["source"] = q.Source
	}
	wait := logDeadline
	if q.Follow {
		wait = followDeadline
	}
	_, err := f.run(ctx, transfer{node: q.Node, verb: "log.tail", args: args, wait: wait}, who, func(ctx context.Context, st *mqtt.Stream) error {
		return receive(ctx, st, w)
	})
	return err
}

// receive copies what the node sends, and waits until it has closed the stream: closed earlier from here, the node would
// take its own last word for a failure.
func receive(ctx context.Context, st *mqtt.Stream, w io.Writer) error {
	if _, err := io.Copy(w, st.Reader(ctx, api.ChannelStdout)); err != nil {
		return err
	}
	return awaitEnd(ctx, st)
}

// awaitEnd reads until the node has closed the stream.
func awaitEnd(ctx context.Context, st *mqtt.Stream) error {
	for {
		if _, _, err := st.Read(ctx); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func (f files) Get(ctx context.Context, node, path string, who rest.Principal, w io.Writer) (string, error) {
	rec, err := f.run(ctx, transfer{node: node, verb: "file.get", args: map[string]any{"path": path}, wait: fileDeadline}, who,
		func(ctx context.Context, st *mqtt.Stream) error {
			return receive(ctx, st, w)
		})
	if err != nil || rec.Status == nil {
		return "", err
	}
	sum, _ := rec.Status.Result["sha256"].(string)
	return sum, nil
}

// putArgs are those that the node takes. An older one keeps no mode: what is asked for a new file then counts for each.
func (f files) putArgs(u rest.Upload) map[string]any {
	args := map[string]any{"path": u.Path, "size": u.Size, "sha256": u.SHA256}
	if u.NewMode != "" && f.agent.takes(u.Node, "file.put", "newMode") {
		args["newMode"] = u.NewMode
		u.NewMode = ""
	}
	if mode := cmp.Or(u.Mode, u.NewMode); mode != "" {
		args["mode"] = mode
	}
	return args
}

func (f files) Put(ctx context.Context, u rest.Upload, who rest.Principal, r io.Reader) error {
	_, err := f.run(ctx, transfer{node: u.Node, verb: "file.put", args: f.putArgs(u), wait: fileDeadline}, who, func(ctx context.Context, st *mqtt.Stream) error {
		out := st.Writer(ctx, api.ChannelStdin)
		if _, err := io.Copy(out, r); err != nil {
			return err
		}
		if err := out.Close(); err != nil {
			return err
		}
		return awaitEnd(ctx, st) // the node closes when it has checked and kept the file
	})
	return err
}
