package command_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/edge/command/verb"
)

// crashDir tells the test binary that it is the agent of TestKilledAtAnyMoment, with its state there.
const crashDir = "SKERRY_COMMAND_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := crashAgent(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// order is a line to the agent: a command, or an ack.
type order struct {
	Command *api.Command `json:"command,omitempty"`
	Ack     string       `json:"ack,omitempty"`
}

// lines is an Out that writes JSON lines.
type lines struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (l *lines) SendStatus(_ context.Context, s *api.Status) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.enc.Encode(s)
}

// crashAgent is an agent reduced to its engine: commands and acks on stdin, statuses on stdout.
func crashAgent(dir string) error {
	db, err := bbolt.Open(filepath.Join(dir, "state.db"), 0o600, &bbolt.Options{Timeout: 5 * time.Second, NoFreelistSync: true})
	if err != nil {
		return err
	}
	clock := agent.NewClock(time.Time{}, agent.ClockSource{})
	run, err := verb.NewExec([]verb.Allow{{Name: "mark", Argv: []string{filepath.Join(dir, "mark.sh")}, Args: []string{"[a-z0-9]+"}}}, nil)
	if err != nil {
		return err
	}
	e, err := command.New(command.Config{Node: "n1", DB: db, Clock: clock, Concurrency: 2, QueueLen: 32, Grace: time.Second,
		ResendEvery: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler), Verbs: []command.Verb{run, verb.NewPing(clock)}},
		&lines{enc: json.NewEncoder(os.Stdout)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	in := json.NewDecoder(os.Stdin)
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			cancel()
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(err, <-ended, db.Close())
		}
		if o.Ack != "" {
			e.Acked([]string{o.Ack})
		} else if err := e.Handle(ctx, o.Command); err != nil {
			cancel()
			return errors.Join(err, <-ended)
		}
	}
}

// site is the other end: it issues commands, kills agents and keeps account.
type site struct {
	t      *testing.T
	dir    string
	mu     sync.Mutex
	orders map[string]*api.Command
	seen   map[string]map[api.Phase]bool // every phase ever heard of a command
	acked  map[string]bool
}

func (s *site) issue(id string) *api.Command {
	now := time.Now()
	cmd := &api.Command{ID: id, Node: "n1", Epoch: 1, Verb: "exec", Args: map[string]any{"argv": []any{"mark", id}}, By: "ann",
		Issued: api.At(now), Deadline: api.At(now.Add(10 * time.Minute))}
	switch rand.N(10) {
	case 0:
		cmd.Verb, cmd.Args = "ping", nil
	case 1:
		cmd.Args = map[string]any{"argv": []any{"mark", id, "; rm -rf /"}}
	case 2:
		cmd.Deadline = cmd.Issued + 30
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders[id] = cmd
	return cmd
}

func (s *site) final(id string) api.Phase {
	for phase := range s.seen[id] {
		if phase.Final() {
			return phase
		}
	}
	return ""
}

// owed lists the orders without a final status.
func (s *site) owed() []*api.Command {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*api.Command
	for id, cmd := range s.orders {
		if s.final(id) == "" {
			out = append(out, cmd)
		}
	}
	return out
}

// life runs one agent: it sends what is owed and some new commands, and kills it when the trigger says so, or, without a
// trigger, lets it go on until nothing is owed.
func (s *site) life(fresh []*api.Command, killAt api.Phase, killAfter time.Duration) {
	s.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+s.dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	var feeding sync.WaitGroup
	acks := make(chan string, 4096)
	feeding.Go(func() { feed(stdin, append(s.owed(), fresh...), acks) })
	kill := sync.OnceFunc(func() { _ = cmd.Process.Kill() })
	arm := func() {}
	if killAfter > 0 {
		arm = sync.OnceFunc(func() { time.AfterFunc(killAfter, kill) })
	}
	if killAt == "" && rand.N(2) == 0 { // while it starts, if that takes so long
		arm()
	}
	hang := time.AfterFunc(3*time.Minute, kill)
	defer hang.Stop()
	in := bufio.NewScanner(stdout)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		arm() // it lives, however long its start has taken
		var st api.Status
		if err := json.Unmarshal(in.Bytes(), &st); err != nil {
			continue // the line in which it died
		}
		s.hear(&st, acks)
		if killAt != "" && st.Phase == killAt {
			kill()
		}
		if killAt == "" && killAfter == 0 && len(s.owed()) == 0 {
			kill()
		}
	}
	kill()
	close(acks)
	feeding.Wait()
	_ = cmd.Wait() // killed
}

// feed writes orders and acks until the agent is gone or acks is closed.
func feed(stdin io.WriteCloser, orders []*api.Command, acks <-chan string) {
	defer stdin.Close()
	enc := json.NewEncoder(stdin)
	for _, cmd := range orders {
		if enc.Encode(order{Command: cmd}) != nil {
			break
		}
	}
	for id := range acks {
		_ = enc.Encode(order{Ack: id}) // one that is lost is asked for again
	}
}

func (s *site) hear(st *api.Status, acks chan<- string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[st.ID] == nil {
		s.seen[st.ID] = map[api.Phase]bool{}
	}
	if was := s.final(st.ID); st.Phase.Final() && was != "" && was != st.Phase {
		s.t.Errorf("command %s was %s and became %s (%s)", st.ID, was, st.Phase, st.Reason)
	}
	s.seen[st.ID][st.Phase] = true
	if st.Phase.Final() && rand.N(2) == 0 {
		select {
		case acks <- st.ID:
			s.acked[st.ID] = true
		default:
		}
	}
}

// Agents are killed with SIGKILL in every state of a command and at random moments. In the end every command has
// exactly one final phase, and what its program did was done at most once.
func TestKilledAtAnyMoment(t *testing.T) {
	dir := t.TempDir()
	marks := filepath.Join(dir, "marks")
	script := "#!/bin/sh\necho $1 >> " + marks + "\n[ $(($$ % 3)) = 0 ] && sleep 0.02\nexit 0\n"
	if err := os.WriteFile(filepath.Join(dir, "mark.sh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: dir, orders: map[string]*api.Command{}, seen: map[string]map[api.Phase]bool{}, acked: map[string]bool{}}
	states := []api.Phase{api.PhaseAccepted, api.PhaseRunning, api.PhaseInterrupted, api.PhaseSucceeded, api.PhaseFailed, api.PhaseRejected}
	const rounds, most = 60, 600 // more than enough, and as many as a busy machine may need until a kill meets what runs
	for round := 0; round < rounds || round < most && !s.met(api.PhaseFailed); round++ {
		var fresh []*api.Command
		for i := range 1 + rand.N(8) {
			fresh = append(fresh, s.issue(fmt.Sprintf("r%dc%d", round, i)))
		}
		after := time.Duration(5+rand.N(75)) * time.Millisecond
		if round%2 == 0 {
			s.life(fresh, states[round/2%len(states)], 500*time.Millisecond)
		} else {
			s.life(fresh, "", after)
		}
	}
	s.life(nil, "", 0)
	s.audit(marks)
}

// met reports whether a command ended so.
func (s *site) met(phase api.Phase) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seen := range s.seen {
		if seen[phase] {
			return true
		}
	}
	return false
}

func (s *site) audit(marks string) {
	raw, err := os.ReadFile(marks)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	done := map[string]int{}
	for _, id := range strings.Fields(string(raw)) {
		done[id]++
	}
	ends := map[api.Phase]int{}
	for id, cmd := range s.orders {
		phase := s.final(id)
		ends[phase]++
		switch n := done[id]; {
		case phase == "":
			s.t.Errorf("command %s has no final phase; heard %v", id, s.seen[id])
		case n > 1:
			s.t.Errorf("command %s was done %d times and is %s", id, n, phase)
		case cmd.Verb == "exec" && phase == api.PhaseSucceeded && n != 1:
			s.t.Errorf("command %s succeeded and was done %d times", id, n)
		case (phase == api.PhaseRejected || phase == api.PhaseExpired) && n != 0:
			s.t.Errorf("command %s is %s and was done", id, phase)
		}
	}
	if ends[api.PhaseSucceeded] == 0 || ends[api.PhaseFailed] == 0 || ends[api.PhaseRejected] == 0 {
		s.t.Errorf("ends %v: the kills did not meet what they were meant to", ends)
	}
	s.t.Logf("%d commands ended as %v; %d acknowledged", len(s.orders), ends, len(s.acked))
}
