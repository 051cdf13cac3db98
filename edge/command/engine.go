package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// Config says what an engine works with.
type Config struct {
	Node string
	DB   *bbolt.DB // two buckets of it are the engine's
	// OnDamage is told how many records of the journal could not be read and are removed. Nil when nobody cares.
	OnDamage func(records int)
	// Forgot reports whether a command that was ordered then may be one of a journal that was lost. Such a one is not done unless
	// it may be done twice. Nil: none was lost.
	Forgot func(ordered time.Time) bool
	// Bucket begins the names of the two: engines of different nodes may share a DB. Empty: command
	Bucket string
	Clock  *agent.Clock
	Verbs  []Verb // cancel is the engine's own and is added
	Log    *slog.Logger

	Concurrency int           // 0: 4; commands that run at once; urgent ones have as many places of their own
	QueueLen    int           // 0: 64; commands that wait; one more is rejected as busy; urgent ones wait in a queue of their own
	Grace       time.Duration // 0: 10 s; from deadline or cancel until a command is closed although its verb still runs
	Drain       time.Duration // 0: 2 s; what a clean stop leaves running commands to end by themselves
	ResendEvery time.Duration // 0: 60 s; between two sendings of a final status that is not acknowledged
	BootID      string        // empty: the kernel's
}

// lastWords is how long a clean stop tries to tell what it interrupted.
const lastWords = time.Second

// Engine brings commands to their end. Safe for concurrent use. Before Ready, Handle and Resend wait, Open knows
// nothing and Acked does nothing.
type Engine struct {
	cfg     Config
	verbs   map[string]*known
	list    []api.Verb
	journal *journal
	sender  *sender
	agent   string // this life of the agent
	ready   chan struct{}
	wake    chan struct{}

	admission sync.Mutex // one command is admitted at a time

	mu       sync.Mutex
	jobs     map[string]*job
	lanes    [3]lane // ordinary, urgent, conversations
	loose    map[string]*looseEnd
	stopping bool

	mended time.Time // when an end that is held back was last tried to be journalled; of the goroutine of Run

	work      sync.WaitGroup // actions, abandoned ones included
	abandoned atomic.Int64   // actions that have not returned although their command is closed
	busy      atomic.Uint64
}

// known is a verb with its schema compiled.
type known struct {
	Spec
	verb Verb
	args *checker
}

// Counts tells how an engine does. Dropped counts statuses that were not sent and are not owed, Busy the commands
// rejected for a full queue, Abandoned the verbs that have not returned though their commands are closed.
type Counts struct {
	Open      int
	Owed      int // final statuses that wait for an ack
	Dropped   uint64
	Busy      uint64
	Abandoned int64
}

// New checks cfg. Nothing is read or written before Run.
func New(cfg Config, out Out) (*Engine, error) {
	var faults []error
	if err := api.ValidID("node", cfg.Node); err != nil {
		faults = append(faults, err)
	}
	if cfg.DB == nil || cfg.Clock == nil || cfg.Log == nil || out == nil {
		faults = append(faults, errors.New("command engine: wanted a database, a clock, a log and a way out"))
	}
	if cfg.Concurrency < 0 || cfg.QueueLen < 0 || cfg.Grace < 0 || cfg.Drain < 0 || cfg.ResendEvery < 0 {
		faults = append(faults, fmt.Errorf("concurrency %d, queue %d, grace %s, drain %s, resend %s: wanted none below zero",
			cfg.Concurrency, cfg.QueueLen, cfg.Grace, cfg.Drain, cfg.ResendEvery))
	}
	if len(cfg.Verbs) >= api.MaxVerbs {
		faults = append(faults, fmt.Errorf("%d verbs; wanted fewer than %d", len(cfg.Verbs), api.MaxVerbs))
	}
	cfg.defaults()
	e := &Engine{cfg: cfg, agent: api.NewID(), ready: make(chan struct{}), wake: make(chan struct{}, 1),
		verbs: map[string]*known{}, jobs: map[string]*job{}, loose: map[string]*looseEnd{}}
	for _, v := range append([]Verb{&cancel{e}}, cfg.Verbs...) {
		if err := e.learn(v); err != nil {
			faults = append(faults, err)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	e.journal = newJournal(cfg.DB, cfg.Bucket)
	e.sender = newSender(out, cfg.Log, e.final)
	return e, nil
}

func (c *Config) defaults() {
	if c.Forgot == nil {
		c.Forgot = func(time.Time) bool { return false }
	}
	if c.Bucket == "" {
		c.Bucket = "command"
	}
	if c.Concurrency == 0 {
		c.Concurrency = 4
	}
	if c.QueueLen == 0 {
		c.QueueLen = 64
	}
	if c.Grace == 0 {
		c.Grace = 10 * time.Second
	}
	if c.Drain == 0 {
		c.Drain = 2 * time.Second
	}
	if c.ResendEvery == 0 {
		c.ResendEvery = time.Minute
	}
	if c.BootID == "" {
		c.BootID = agent.BootID()
	}
}

func (e *Engine) learn(v Verb) error {
	spec := v.Spec()
	if err := api.ValidID("verb", spec.Name); err != nil {
		return err
	}
	if e.verbs[spec.Name] != nil {
		return fmt.Errorf("verb %s is there twice", spec.Name)
	}
	if spec.Restart >= policyEnds || !spec.Role.Includes(api.RoleViewer) {
		return fmt.Errorf("verb %s: restart policy %d, role %q: wanted known ones", spec.Name, spec.Restart, spec.Role)
	}
	if spec.Safe && spec.Restart != Retry {
		return fmt.Errorf("verb %s: wanted one that is safe to have the restart policy Retry", spec.Name)
	}
	args, err := compile("args", spec.Args)
	if err != nil {
		return fmt.Errorf("verb %s: %w", spec.Name, err)
	}
	e.verbs[spec.Name] = &known{spec, v, args}
	e.list = append(e.list, spec.Verb)
	return nil
}

// Verbs describes what the node can be told to do, for its birth.
func (e *Engine) Verbs() []api.Verb { return append([]api.Verb{}, e.list...) }

// Ready is closed when the journal has been read.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Run settles what the last life of the agent left open, then works until ctx ends. Then it lets running commands end
// for a moment, interrupts the rest, and returns. An error names the verbs that would not end.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.recover(); err != nil {
		return err
	}
	sending, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSending()
	e.sender.open(sending)
	close(e.ready)
	e.pump()
	e.loop(ctx)
	err := e.stop()
	limit := time.AfterFunc(lastWords, stopSending)
	e.sender.close()
	limit.Stop()
	e.mend() // what nobody has acknowledged
	return errors.Join(err, e.journal.flush())
}

// loop closes what is due and sends again what is owed.
func (e *Engine) loop(ctx context.Context) {
	due := time.NewTimer(0)
	defer due.Stop()
	resend := time.NewTimer(agent.Jitter(e.cfg.ResendEvery, 0.1))
	defer resend.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
		case <-due.C:
		case <-resend.C:
			e.mend()
			e.sendOwed()
			resend.Reset(agent.Jitter(e.cfg.ResendEvery, 0.1))
		}
		due.Reset(e.tick())
	}
}

// nudge makes the loop look at the deadlines.
func (e *Engine) nudge() {
	select {
	case e.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Counts tells how the engine does.
func (e *Engine) Counts() Counts {
	e.mu.Lock()
	open := len(e.jobs)
	loose := 0
	for _, l := range e.loose {
		if !l.acked || l.held() {
			loose++
		}
	}
	e.mu.Unlock()
	return Counts{Open: open, Owed: len(e.journal.owed()) + loose, Dropped: e.sender.dropped.Load(),
		Busy: e.busy.Load(), Abandoned: e.abandoned.Load()}
}
