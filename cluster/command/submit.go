package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

// What a caller may want to tell apart.
var (
	ErrNotLoaded   = errors.New("command journal is not loaded yet")
	ErrInvalid     = errors.New("invalid command")        // the order is wrong; saying it again does not help
	ErrUnknownNode = errors.New("no such node")           //
	ErrConflict    = errors.New("command id is taken")    // by a different command
	ErrFull        = errors.New("too many open commands") // try again when some have ended
	ErrNotFound    = errors.New("no such command")
	ErrFinal       = errors.New("command has already ended")
)

// Order is a command that somebody wants run. The caller has checked their role. ID may be empty; with one, submitting
// the same again returns the record of the first time.
type Order struct {
	ID       string
	Node     string
	Verb     string
	Args     map[string]any
	By       string
	Deadline time.Time
	// Passing has the journal forget the command with its end, which those who watch are told: for questions of programs that come again and
	// again, which would push out what people ordered.
	Passing bool
	// Journalled, which may be nil, adds to the transaction that journals a new command, such as an audit entry: both
	// are on disk or neither. It may run more than once and must then begin anew.
	Journalled func(tx *bbolt.Tx) error
}

// argsDepth is how deep arguments may nest: what the wire allows, less the command around them.
const argsDepth = api.MaxDepth - 1

// Submit journals o and returns its record: queued, or delivered when the node is connected (Run then hands it over). A safe
// one is sent at once, and may have ended.
// It is on disk when Submit returns. The same id with the same node, verb, args and person returns the existing record;
// the deadline is not compared, since a repeated request with a relative one resolves to another instant.
func (j *Journal) Submit(ctx context.Context, o Order) (api.CommandRecord, error) {
	if err := ctx.Err(); err != nil {
		return api.CommandRecord{}, err
	}
	now := j.cfg.Now()
	if err := o.normalise(now); err != nil {
		return api.CommandRecord{}, err
	}
	have, found, err := j.lookup(o.ID)
	if err != nil {
		return api.CommandRecord{}, err
	}
	if found {
		return o.again(&have)
	}
	safe, err := j.check(&o, now)
	if err != nil {
		return api.CommandRecord{}, err
	}
	if err := j.reserve(&o); err != nil {
		return api.CommandRecord{}, err
	}
	defer j.release(&o)
	var e entry
	fresh := false
	if safe {
		e, fresh, err = j.enterSafe(ctx, &o, now)
	} else {
		e, fresh, err = j.insert(&o, api.At(now), 0, nil)
	}
	if err != nil {
		return api.CommandRecord{}, fmt.Errorf("journal command %s: %w", o.ID, err)
	}
	if !fresh {
		return o.again(&e)
	}
	return e.CommandRecord, nil
}

// normalise fills in the id, and takes args through JSON: what is kept is what the node will see, and nobody else
// holds on to it.
func (o *Order) normalise(now time.Time) error {
	if o.ID == "" {
		o.ID = api.NewID()
	}
	if len(o.Args) > 0 {
		raw, err := json.Marshal(o.Args)
		if err != nil {
			return fmt.Errorf("%w: args: %w", ErrInvalid, err)
		}
		if len(raw) > api.MaxArgsBytes {
			return fmt.Errorf("%w: args take %d bytes as JSON; wanted at most %d", ErrInvalid, len(raw), api.MaxArgsBytes)
		}
		o.Args = nil
		if err := json.Unmarshal(raw, &o.Args); err != nil {
			return fmt.Errorf("%w: args: %w", ErrInvalid, err)
		}
	} else {
		o.Args = nil
	}
	c := api.Command{ID: o.ID, Node: o.Node, Epoch: 1, Verb: o.Verb, Args: o.Args, By: o.By, Issued: 1, Deadline: 2}
	if err := c.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if d := depth(o.Args); d > argsDepth {
		return fmt.Errorf("%w: args nest %d levels deep; wanted at most %d", ErrInvalid, d, argsDepth)
	}
	return nil
}

// again answers a submission whose id has a record.
func (o *Order) again(e *entry) (api.CommandRecord, error) {
	mine, err1 := json.Marshal([]any{o.Node, o.Verb, o.By, o.Args})
	have, err2 := json.Marshal([]any{e.Node, e.Verb, e.By, e.Args})
	if err := errors.Join(err1, err2); err != nil {
		return api.CommandRecord{}, err
	}
	if string(mine) != string(have) {
		return api.CommandRecord{}, fmt.Errorf("id %s was used for another command (another node, verb, arguments or person): %w",
			o.ID, ErrConflict)
	}
	return e.CommandRecord, nil
}

// check is for new commands only: a repeated one may come when its deadline has passed. safe is what the node says of
// the verb.
func (j *Journal) check(o *Order, now time.Time) (safe bool, err error) {
	switch wait := o.Deadline.Sub(now); {
	case o.Deadline.IsZero():
		return false, fmt.Errorf("%w: deadline is missing; wanted an instant within %s", ErrInvalid, j.cfg.MaxWait)
	case api.At(o.Deadline) <= api.At(now):
		return false, fmt.Errorf("%w: deadline %s has passed; wanted one after %s", ErrInvalid,
			o.Deadline.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case wait > j.cfg.MaxWait:
		return false, fmt.Errorf("%w: deadline is %s away; wanted at most %s", ErrInvalid, wait.Round(time.Second), j.cfg.MaxWait)
	}
	verbs, exists := j.cfg.Nodes.Verbs(o.Node)
	if !exists {
		return false, fmt.Errorf("node %s: %w", o.Node, ErrUnknownNode)
	}
	if verbs == nil {
		return false, nil // it has never said what it can; it will reject what it cannot
	}
	i := slices.IndexFunc(verbs, func(v api.Verb) bool { return v.Name == o.Verb })
	if i < 0 {
		names := make([]string, 0, len(verbs))
		for _, v := range verbs {
			names = append(names, v.Name)
		}
		slices.Sort(names)
		return false, fmt.Errorf("%w: node %s has no verb %q; it has %s", ErrInvalid, o.Node, o.Verb, strings.Join(names, ", "))
	}
	if err := checkArgs(&verbs[i].Args, o.Args); err != nil {
		return false, fmt.Errorf("%w: verb %s: %w", ErrInvalid, o.Verb, err)
	}
	return verbs[i].Safe, nil
}

// reserve holds a place among the open commands until release. A cancel is let through: it is what makes room.
func (j *Journal) reserve(o *Order) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	limit, total := j.cfg.MaxOpenPerNode, j.cfg.MaxOpen
	if o.Verb == verbCancel {
		limit, total = limit*2, total*2
	}
	if n := len(j.byNode[o.Node]) + j.reserved[o.Node]; n >= limit {
		j.stats.Refused++
		return fmt.Errorf("%w: node %s has %d, the limit is %d", ErrFull, o.Node, n, limit)
	}
	if n := len(j.open) + j.pending; n >= total {
		j.stats.Refused++
		return fmt.Errorf("%w: the cluster has %d, the limit is %d", ErrFull, n, total)
	}
	j.reserved[o.Node]++
	j.pending++
	return nil
}

func (j *Journal) release(o *Order) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending--
	if j.reserved[o.Node]--; j.reserved[o.Node] == 0 {
		delete(j.reserved, o.Node)
	}
}

// insert journals o unless its id has a record by now. For a connected node delivered is written at once, before
// anything is sent, which saves it a second transaction. sent is the session that it was sent ahead to, 0 when it was
// not; s is what the node said since, nil when nothing.
func (j *Journal) insert(o *Order, now api.Millis, sent uint64, s *api.Status) (e entry, fresh bool, err error) {
	err = j.group.Do(func(tx *bbolt.Tx) error {
		have, found, err := load(tx, o.ID)
		if err != nil || found {
			e, fresh = have, false
			return err
		}
		e, fresh = newEntry(o, now), true
		if _, up := j.link(o.Node); up || sent > 0 {
			e.step(api.Transition{Phase: api.PhaseDelivered, At: now, Side: sideCluster}, now)
		}
		if s != nil {
			e.take(s, api.At(j.cfg.Now()))
		}
		if e.Seq, err = tx.Bucket([]byte(bucketOpen)).NextSequence(); err != nil {
			return err
		}
		if o.Journalled != nil {
			if err := o.Journalled(tx); err != nil {
				return err
			}
		}
		return save(tx, &e)
	}, func() {
		switch {
		case !fresh:
		case e.Final:
			j.settle(&e, ended)
		default:
			j.settle(&e, advanced)
			if s == nil && !j.sentTo(sent, &e) {
				j.offer(&e)
			}
		}
	})
	return e, fresh, err
}

// depth is how deep v nests: 1 for a flat object.
func depth(v any) int {
	deepest := 0
	switch v := v.(type) {
	case map[string]any:
		for _, child := range v {
			deepest = max(deepest, depth(child))
		}
	case []any:
		for _, child := range v {
			deepest = max(deepest, depth(child))
		}
	default:
		return 0
	}
	return deepest + 1
}
