package swarm

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
	"github.com/skerry-edge/skerry/edge/outbox"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

func TestHistogramIsRightWithinAnEighth(t *testing.T) {
	for _, d := range []time.Duration{0, time.Microsecond, 7 * time.Microsecond, 15 * time.Microsecond, 100 * time.Microsecond, 1234 * time.Microsecond,
		time.Second, time.Hour} {
		var h Histogram
		h.Add(d)
		got := h.Quantile(0.5)
		if got < d || float64(got) > float64(d)*1.13+float64(2*time.Microsecond) {
			t.Errorf("%s became %s", d, got)
		}
	}
	var h Histogram
	for i := range 1000 {
		h.Add(time.Duration(i) * time.Millisecond)
	}
	if p := h.Quantile(0.99); p < 980*time.Millisecond || p > 1120*time.Millisecond || h.Count() != 1000 {
		t.Errorf("p99 of 0 to 999 ms is %s of %d", p, h.Count())
	}
	if h := new(Histogram); h.Quantile(0.5) != 0 {
		t.Error("nothing has a median")
	}
}

// pair is a connection to ourselves.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestALineIsAsSlowAsItsProfile(t *testing.T) {
	a, b := pair(t)
	slow, err := newLine(t.Context(), a, &Slow{BytesPerSecond: 10_000, Latency: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for range 4 {
		if _, err := slow.Write(make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took < 250*time.Millisecond { // 200 ms of bytes, and the latency at least once
		t.Errorf("2000 bytes at 10000 a second were written within %s", took)
	}
	if _, err := io.ReadFull(b, make([]byte, 2000)); err != nil {
		t.Error(err)
	}
	if _, err := b.Write(make([]byte, 2000)); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	if _, err := io.ReadFull(slow, make([]byte, 2000)); err != nil || time.Since(start) < 190*time.Millisecond {
		t.Errorf("2000 bytes at 10000 a second were read within %s, %v", time.Since(start), err)
	}
}

func TestAResetIsNoGoodbye(t *testing.T) {
	a, b := pair(t)
	l, err := newLine(t.Context(), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.reset()
	if _, err := b.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the other side reads %v; wanted a reset", err)
	}
}

func TestScheduleKeepsTheCadenceOfEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &schedule{wake: make(chan struct{}, 1), every: 10 * time.Second}
		nodes := []*node{{}, {}, {}}
		for _, n := range nodes {
			s.add(n)
		}
		count := map[*node]int{}
		for range 100 {
			list, wait := s.next(time.Now())
			for _, n := range list {
				count[n]++
			}
			time.Sleep(wait)
		}
		for _, n := range nodes {
			if count[n] < 30 || count[n] > 35 {
				t.Errorf("one node of three measured %d times in a hundred", count[n])
			}
		}
		time.Sleep(time.Minute) // the machine was suspended
		list, wait := s.next(time.Now())
		if len(list) != 3 || wait <= 0 {
			t.Errorf("after a pause %d are due, the next in %s; wanted each once", len(list), wait)
		}
		s.stop()
		if list, wait := s.next(time.Now()); len(list) != 0 || wait < time.Minute {
			t.Errorf("stopped, %d are due, the next in %s", len(list), wait)
		}
	})
}

// TestRowsOfANodeDifferInTime has turns that came late follow each other at once, within a batch and across two.
func TestRowsOfANodeDifferInTime(t *testing.T) {
	n := &node{swarm: &Swarm{cfg: Config{Profile: Profile{BatchRows: 2}}, series: []string{"swarm_s0"}}, clock: agent.NewClock(time.Time{}, agent.ClockSource{})}
	n.truth.Series = 1
	var err error
	n.outbox, err = outbox.Open(outbox.Config{Epoch: 1, Boot: "boot", Clock: n.clock, Sender: n, Log: slog.New(slog.DiscardHandler), Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(1764000000000)
	for _, at := range []time.Time{now, now, now, now.Add(-time.Hour), now.Add(time.Second)} {
		n.measure(at)
	}
	n.flush()
	if got, want := n.truth.Times(), []int64{0, 1, 2, 3, 1000}; len(got) != len(want) {
		t.Errorf("%d rows; wanted %d", len(got), len(want))
	} else {
		for i := range want {
			if got[i]-now.UnixMilli() != want[i] {
				t.Errorf("row %d is of %d; wanted %d", i, got[i]-now.UnixMilli(), want[i])
			}
		}
	}
}

func TestNothingElseIsConnectedTo(t *testing.T) {
	cfg := &Config{Join: api.Join{Endpoints: []string{"https://site.example:8443"}}}
	p := &papers{servers: []string{"mqtts://elsewhere.example:8883", "mqtts://site.example:8884"}, certs: make([]tls.Certificate, 1)}
	if err := p.choose(cfg); err != nil || len(p.servers) != 1 || p.servers[0] != "mqtts://site.example:8884" {
		t.Errorf("chose %v, %v", p.servers, err)
	}
	for addr, ok := range map[string]bool{"site.example:8884": true, "site.example:8883": false, "elsewhere.example:8883": false} {
		if err := p.permitted(addr); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
	p = &papers{servers: []string{"mqtts://elsewhere.example:8883"}}
	if err := p.choose(cfg); err == nil || !strings.Contains(err.Error(), "give --url") {
		t.Errorf("a broker that nobody named: %v", err)
	}
	cfg.URLs = []string{"mqtts://given.example"}
	if err := p.choose(cfg); err != nil || p.permitted("given.example:8883") != nil || p.permitted("elsewhere.example:8883") == nil {
		t.Errorf("a broker that was given: %v, %v", p.servers, err)
	}
}

func TestAHandlerCountsBeforeItFails(t *testing.T) {
	var log account.Commands
	v := &verb{Handler{Verb: "work", Fail: 1}, &log}
	act, err := v.Prepare(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = act(t.Context(), command.NewJob(&api.Command{ID: "c1"}, nil))
	if _, effects := log.Count(); !errors.Is(err, errProfile) || effects != 1 {
		t.Errorf("%v, %d effects", err, effects)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v.Duration = time.Hour
	act, _ = v.Prepare(nil)
	if _, err := act(ctx, command.NewJob(&api.Command{ID: "c2"}, nil)); err == nil {
		t.Error("it outlives its context")
	}
}

func TestResultsFitAHundredColumns(t *testing.T) {
	long := strings.Repeat("long ", 50)
	r := &Result{Figures: Figures{Nodes: 10000, Started: 10000, Online: 9999, Made: 1 << 40, Acked: 1 << 40, Attempts: 1 << 30, Reconnects: 1 << 30,
		Resets: 1 << 20, Leaves: 1 << 20, Sleeps: 1 << 20, BytesIn: 1 << 40, BytesOut: 1 << 40, RSSBytes: 1 << 34, BaseBytes: 1 << 24, Goroutines: 1 << 18},
		Steps: []Span{{Step: long, Took: Seconds(time.Hour), Error: long}}, Error: long + "\n" + long,
		Account: &account.Report{Views: []string{"rest", "promql", "mqtt"}, Total: 1, Violations: []account.Violation{{Check: "telemetry", Object: "swarm-00001",
			Detail: long}}, Ends: map[api.Phase]int{api.PhaseSucceeded: 1 << 20}, Samples: account.Tally{Made: 1 << 40, Stored: 1 << 40}}}
	var out bytes.Buffer
	if err := r.Write(&out, false); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	f := r.Figures
	f.Backlog, f.Commands, f.Lag = 100_000, 100_000, Seconds(time.Hour)
	if line := f.line(Figures{}, time.Minute); len(line) > 140 {
		t.Errorf("%d columns: %s", len(line), line)
	}
	out.Reset()
	if err := r.Write(&out, true); err != nil || !strings.Contains(out.String(), `"samplesMade"`) || !strings.Contains(out.String(), `"ingestP99": 0`) {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestDoorTellsWhatIsWrong(t *testing.T) {
	for args, want := range map[string]string{
		"--nodes 5":                        "whom to simulate for",
		"--nodes 0 --series 0 --join x":    "series 0",
		"--join x -o xml":                  `output "xml"`,
		"--join x extra":                   "arguments [extra]",
		"--join x --profile /no/such/file": "no such file",
		"--bogus":                          "unknown flag",
	} {
		var out, errs bytes.Buffer
		code := (&Door{Out: &out, Err: &errs}).Main(t.Context(), strings.Fields(args))
		if code != ExitUsage || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: %d, %s; wanted %q", args, code, errs.String(), want)
		}
	}
	var out, errs bytes.Buffer
	if code := (&Door{Out: &out, Err: &errs}).Main(t.Context(), []string{"--join", "skerry1.nonsense"}); code != ExitFailed {
		t.Errorf("a damaged join string: %d, %s", code, errs.String())
	}
}

func TestANodeIsNotSetBackByTheDocumentOfASessionBefore(t *testing.T) {
	now := time.Now()
	n := &node{clock: agent.NewClock(now.Add(-time.Hour), agent.ClockSource{Synced: func() bool { return false }})}
	var err error
	n.outbox, err = outbox.Open(outbox.Config{Epoch: 1, Boot: "boot", Clock: n.clock, Timed: n.clock.Told, Sender: n, Log: slog.New(slog.DiscardHandler),
		Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	n.epoch.Store(7)
	n.hear(&api.Desired{Epoch: 6, Issued: api.At(now.Add(-20 * time.Second))})
	if off := n.clock.Now().Sub(now); off < 0 || n.clock.Told(7) {
		t.Errorf("a retained document set the clock to %s; wanted it to tell nothing", off)
	}
	n.hear(&api.Desired{Epoch: 7, Issued: api.At(now.Add(time.Hour))})
	if off := n.clock.Now().Sub(now); off < time.Hour-time.Second || !n.clock.Told(7) {
		t.Errorf("a document of the session set the clock to %s; wanted an hour ahead", off)
	}
}

// TestAWordThatTookAsLongAsTheBirthDoesNotSetANodeBack has a birth take 20 s, at whose begin the cluster agent signs the time.
func TestAWordThatTookAsLongAsTheBirthDoesNotSetANodeBack(t *testing.T) {
	right, boot := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC), time.Hour
	clock := agent.NewClock(time.Time{}, agent.ClockSource{System: func() time.Time { return time.Unix(5, 0) },
		Boot: func() time.Duration { return boot }, Synced: func() bool { return false }})
	codec, err := mqtt.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	topics, err := mqtt.NewTopics("skerry/v1", "c")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{id: "n1", clock: clock, swarm: &Swarm{codec: codec, topics: topics, boot: "boot"}}
	n.outbox, err = outbox.Open(outbox.Config{Epoch: 1, Boot: "boot", Clock: clock, Timed: clock.Told, Sender: n, Log: slog.New(slog.DiscardHandler),
		Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	n.epoch.Store(1)
	clock.Word(1, right)
	n.epoch.Store(2)
	err = n.tell(t.Context(), func(_ context.Context, topic string, _ []byte, _ bool) error {
		if topic == n.topic(mqtt.KindBirth, "") {
			boot += 20 * time.Second
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	clock.Word(2, right)
	if got := clock.Cluster(); !got.Equal(right.Add(20*time.Second)) || !clock.Told(2) {
		t.Errorf("the cluster's time is %s; wanted %s", got, right.Add(20*time.Second))
	}
}

func TestMemoryOfANodeIsToldOnlyWhereItSaysSomething(t *testing.T) {
	for started, want := range map[int]bool{10: false, 100: false, 499: false, 500: true, 10_000: true} {
		r := &Result{Figures: Figures{Started: started, RSSBytes: 1 << 30}}
		var out bytes.Buffer
		if err := r.Write(&out, false); err != nil || strings.Contains(out.String(), "KiB/node") != want {
			t.Errorf("%d nodes, %v: wanted a figure for each %v\n%s", started, err, want, &out)
		}
	}
}

func TestStepsAreCalledWhatTheyDo(t *testing.T) {
	for want, step := range map[string]Step{"ramp all at 50/s": {Do: "ramp", Rate: 50}, "ramp 7 at 0.5/s": {Do: "ramp", Nodes: 7, Rate: 0.5},
		"await 100 %": {Do: "await", Share: 1}, "cut 12.5 %": {Do: "cut", Share: 0.125}, "reset 33.33 %": {Do: "reset", Share: 1.0 / 3}} {
		if got := step.title(); got != want {
			t.Errorf("%+v is called %q; wanted %q", step, got, want)
		}
	}
}
