package registry

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/commit"
)

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func openDB(t testing.TB, sync bool) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, &bbolt.Options{NoSync: !sync})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func newRegistry(t testing.TB, cfg Config) *Registry {
	t.Helper()
	if cfg.DB == nil {
		cfg.DB = openDB(t, false)
	}
	cfg.Cluster, cfg.Log = "c", slog.New(slog.DiscardHandler)
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Load(); err != nil {
		t.Fatal(err)
	}
	r.OnBroker(true)
	return r
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func enrol(t testing.TB, r *Registry, id string) {
	t.Helper()
	must(t, r.Enrolled(Enrolment{Node: id, KeySHA256: "key-" + id, Labels: map[string]string{"site": "token", "by": "token"}}))
}

func birth(id string, epoch uint64, boot string, started api.Millis) *api.Birth {
	return &api.Birth{Node: id, Cluster: "c", Epoch: epoch, Boot: boot, At: api.At(zero), Started: started,
		TimeQuality: api.TimeSynced, Version: "1.0.0", Labels: map[string]string{"site": "birth", "by": "birth", "arch": "arm64"},
		Verbs: []api.Verb{{Name: "ping", Help: "Answer."}}, IntervalMillis: 10_000}
}

func state(s api.NodeState, epoch uint64) *api.State {
	return &api.State{State: s, Epoch: epoch, Boot: "b1", At: api.At(zero)}
}

func get(t testing.TB, r *Registry, id string) api.Node {
	t.Helper()
	n, ok := r.Get(id)
	if !ok {
		t.Fatalf("no node %s", id)
	}
	return n
}

func kinds(t testing.TB, r *Registry, node string) string {
	t.Helper()
	list, err := r.Events().List(EventFilter{Node: node})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range slices.Backward(list) {
		all = append(all, strings.TrimPrefix(e.Kind, "node."))
	}
	return strings.Join(all, " ")
}

func TestEverythingAcknowledgedIsThereAfterARestart(t *testing.T) {
	c := &clock{now: zero}
	db := openDB(t, false)
	r := newRegistry(t, Config{DB: db, Now: c.Now})
	enrol(t, r, "n1")
	must(t, r.OnLink("n1", true, ""), r.OnBirth("n1", birth("n1", 7, "b1", 1), false), r.OnState("n1", state(api.StateOnline, 7), false),
		r.OnReported("n1", &api.Reported{Generation: 1, Hash: "h", Epoch: 7, Config: api.ConfigStatus{State: "applied"}}, false),
		r.SetLabels("n1", map[string]string{"by": "user"}), r.Renewed("n1", api.Certificate{SHA256: "ff", NotAfter: 9}))
	rev, err := r.SetDesired("n1", func(d *api.Desired) error {
		d.Config = map[string]any{"a": 1}
		return nil
	})
	must(t, err)
	before := get(t, r, "n1")
	if before.Presence != api.PresenceOnline || before.Desired != rev || before.LastSeen != api.At(zero) {
		t.Fatalf("before: %+v", before)
	}
	c.add(time.Minute)
	after := get(t, newRegistry(t, Config{DB: db, Now: c.Now}), "n1")
	if after.Presence != api.PresenceDisconnected || after.Reason != ReasonRestarted {
		t.Errorf("after a restart it is %s (%s)", after.Presence, after.Reason)
	}
	after.Presence, after.Reason, after.Since, after.LastSeen = before.Presence, before.Reason, before.Since, before.LastSeen
	if !reflect.DeepEqual(before, after) {
		t.Errorf("before %+v\nafter  %+v", before, after)
	}
	if want := map[string]string{"by": "user", "site": "token", "arch": "arm64"}; !reflect.DeepEqual(after.Labels, want) {
		t.Errorf("labels %v; wanted %v", after.Labels, want)
	}
}

func TestRestartOfTheClusterAgentIsNobodysAbsenceAndNobodysEvent(t *testing.T) {
	c := &clock{now: zero}
	db := openDB(t, false)
	r := newRegistry(t, Config{DB: db, Now: c.Now})
	for _, id := range []string{"back", "gone", "out"} {
		enrol(t, r, id)
		must(t, r.OnBirth(id, birth(id, 1, "b1", 1), false), r.OnState(id, state(api.StateOnline, 1), false))
	}
	must(t, r.OnState("out", state(api.StateLost, 1), false))
	c.add(20 * time.Hour)
	must(t, r.flush())
	before := kinds(t, r, "back")
	c.add(1000 * time.Hour) // the cluster agent is down
	r = newRegistry(t, Config{DB: db, Now: c.Now})
	r.look(c.Now())
	if n := get(t, r, "out"); n.Presence != api.PresenceDisconnected {
		t.Errorf("out for 20 attended hours of 24 and %s", n.Presence)
	}
	must(t, r.OnBirth("back", birth("back", 2, "b1", 1), false), r.OnState("back", state(api.StateOnline, 2), false))
	if n := get(t, r, "back"); n.Presence != api.PresenceOnline || kinds(t, r, "back") != before {
		t.Errorf("back is %s, events %q; wanted online and no event more than %q", n.Presence, kinds(t, r, "back"), before)
	}
	c.add(11 * time.Minute)
	r.look(c.Now())
	if got := kinds(t, r, "gone"); !strings.HasSuffix(got, "disconnected") {
		t.Errorf("events of the one that did not come back: %q", got)
	}
	c.add(4 * time.Hour)
	r.look(c.Now())
	if n := get(t, r, "out"); n.Presence != api.PresenceLost || !strings.HasSuffix(kinds(t, r, "out"), "lost") {
		t.Errorf("out for 24 attended hours and %s, events %q", n.Presence, kinds(t, r, "out"))
	}
	if n := get(t, r, "gone"); n.Presence != api.PresenceDisconnected {
		t.Errorf("gone for 4 attended hours and %s", n.Presence)
	}
}

func TestBirthsTellRebootFromRestartFromBrokenLink(t *testing.T) {
	r := newRegistry(t, Config{})
	enrol(t, r, "n1")
	for _, b := range []*api.Birth{birth("n1", 1, "b1", 1), birth("n1", 1, "b1", 1), birth("n1", 2, "b1", 1), birth("n1", 3, "b1", 2),
		birth("n1", 4, "b2", 3), birth("n1", 2, "b9", 9)} {
		must(t, r.OnBirth("n1", b, false))
	}
	n := get(t, r, "n1")
	if n.Epoch != 4 || n.Boot != "b2" || n.Restarts != 1 || n.Reboots != 1 {
		t.Errorf("epoch %d, boot %s, %d restarts, %d reboots; wanted 4, b2, 1, 1", n.Epoch, n.Boot, n.Restarts, n.Reboots)
	}
	if got := kinds(t, r, "n1"); got != "enrolled reconnected restarted rebooted" {
		t.Errorf("events %q", got)
	}
	must(t, r.OnState("n1", state(api.StateOnline, 4), false), r.OnState("n1", state(api.StateLost, 3), false))
	if n := get(t, r, "n1"); n.Presence != api.PresenceOnline || r.Stats().Stale != 2 {
		t.Errorf("%s after the late will of an older session, %d stale", n.Presence, r.Stats().Stale)
	}
}

func TestTakeoverInAnyOrderLeavesTheNodeConnected(t *testing.T) {
	for _, order := range []string{"up down", "down up"} {
		r := newRegistry(t, Config{})
		enrol(t, r, "n1")
		must(t, r.OnLink("n1", true, ""), r.OnState("n1", state(api.StateOnline, 1), false))
		for _, what := range strings.Fields(order) {
			must(t, r.OnLink("n1", what == "up", "taken over"))
		}
		must(t, r.OnState("n1", state(api.StateOnline, 2), false), r.OnState("n1", state(api.StateLost, 1), false))
		if n := get(t, r, "n1"); n.Presence != api.PresenceOnline || !r.Connected("n1") {
			t.Errorf("%s: %s (%s)", order, n.Presence, n.Reason)
		}
		must(t, r.OnLink("n1", false, "keepalive timeout"))
		if n := get(t, r, "n1"); n.Presence != api.PresenceDisconnected || n.Reason != "keepalive timeout" || r.Connected("n1") {
			t.Errorf("%s: then %s (%s)", order, n.Presence, n.Reason)
		}
	}
}

func TestSilentNodeOfAForeignBrokerComesBackWithItsFirstWord(t *testing.T) {
	c := &clock{now: zero}
	r := newRegistry(t, Config{Now: c.Now})
	enrol(t, r, "n1")
	must(t, r.OnBirth("n1", birth("n1", 1, "b1", 1), true), r.OnState("n1", state(api.StateOnline, 1), true))
	for range 20 {
		c.add(time.Minute)
		r.Seen("n1", c.Now())
		r.look(c.Now())
	}
	if n := get(t, r, "n1"); n.Presence != api.PresenceOnline || n.LastSeen != api.At(c.Now()) {
		t.Fatalf("talking and %s (%s), seen %d", n.Presence, n.Reason, n.LastSeen)
	}
	c.add(3 * time.Minute)
	r.look(c.Now())
	if n := get(t, r, "n1"); n.Presence != api.PresenceDisconnected || !strings.Contains(n.Reason, "silent") {
		t.Fatalf("silent and %s (%s)", n.Presence, n.Reason)
	}
	r.Seen("n1", c.Now())
	if n := get(t, r, "n1"); n.Presence != api.PresenceOnline {
		t.Fatalf("talking again and %s", n.Presence)
	}
}

func TestFlappingNodeDoesNotFillTheLog(t *testing.T) {
	c := &clock{now: zero}
	r := newRegistry(t, Config{Now: c.Now})
	enrol(t, r, "n1")
	for epoch := range uint64(100) {
		must(t, r.OnState("n1", state(api.StateOnline, epoch+1), false), r.OnState("n1", state(api.StateLost, epoch+1), false))
		c.add(time.Second)
	}
	got := kinds(t, r, "n1")
	if n := strings.Count(got, "online") + strings.Count(got, "disconnected"); n != flapChanges || strings.Count(got, "flapping") != 1 {
		t.Errorf("events %q; wanted %d changes and one word of flapping", got, flapChanges)
	}
	c.add(flapWindow)
	r.look(c.Now())
	if got := kinds(t, r, "n1"); !strings.HasSuffix(got, "flapping steady") {
		t.Errorf("events %q", got)
	}
	list, err := r.Events().List(EventFilter{Kind: "node.steady"})
	must(t, err)
	if len(list) != 1 || !strings.Contains(list[0].Message, "194 changes were not told") {
		t.Errorf("%+v", list)
	}
	if n := r.Stats(); n.EventsDamped != 193 {
		t.Errorf("%d damped", n.EventsDamped)
	}
}

func TestDesiredGrowsOnlyWhenItChangesAndNeverFallsBack(t *testing.T) {
	c := &clock{now: zero}
	r := newRegistry(t, Config{Now: c.Now})
	enrol(t, r, "n1")
	if d, err := r.DesiredFor("n1", 1); d != nil || err != nil {
		t.Fatalf("desired of a node that was told nothing: %v, %v", d, err)
	}
	set := func(names ...string) (api.Revision, error) {
		return r.SetDesired("n1", func(d *api.Desired) error {
			d.Workloads = nil
			for _, name := range names {
				d.Workloads = append(d.Workloads, api.Workload{Name: name, Runtime: "process", Containers: []api.Container{{Name: "main", Image: "i"}}})
			}
			return nil
		})
	}
	first, err := set("w1")
	must(t, err)
	same, err := set("w1")
	must(t, err)
	second, err := set("w1", "w2")
	must(t, err)
	if first.Generation != 1 || same != first || second.Generation != 2 || second.Hash == first.Hash || len(first.Hash) != 64 {
		t.Fatalf("revisions %v, %v, %v", first, same, second)
	}
	if _, err := set("w1", "w1"); !errors.Is(err, ErrInvalid) {
		t.Errorf("two workloads of one name: %v", err)
	}
	refuse := errors.New("refuse")
	if _, err := r.SetDesired("n1", func(*api.Desired) error { return refuse }); !errors.Is(err, refuse) {
		t.Errorf("refused change: %v", err)
	}
	if _, err := r.SetDesired("n1", func(d *api.Desired) error {
		d.Config = map[string]any{"big": strings.Repeat("x", api.MaxMessageBytes)}
		return nil
	}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a document that fits no message: %v", err)
	}
	d, err := r.DesiredFor("n1", 9)
	must(t, err)
	if err := d.Validate(); err != nil || d.Generation != 2 || d.Epoch != 9 || d.Issued != api.At(zero) || d.Expires != api.At(at(24*time.Hour)) {
		t.Errorf("%+v, %v", d, err)
	}
	if hash, _, err := HashDesired(d); err != nil || hash != d.Hash {
		t.Errorf("hash of what is issued is %s, %v; it says %s", hash, err, d.Hash)
	}
	must(t, r.Remove("n1", "ann"))
	if stone, found, err := r.Tombstone("n1"); err != nil || !found || stone.Generation != 2 || stone.By != "ann" {
		t.Errorf("tombstone %+v, %v, %v", stone, found, err)
	}
	if _, err := set("w1"); !errors.Is(err, ErrUnknown) {
		t.Errorf("desired of a removed node: %v", err)
	}
	enrol(t, r, "n1")
	if third, err := set("w1"); err != nil || third.Generation != 3 {
		t.Errorf("generation %d after the node was removed and enrolled again, %v; wanted 3", third.Generation, err)
	}
}

func TestConcurrentDesiredChangesAllTakePart(t *testing.T) {
	r := newRegistry(t, Config{})
	enrol(t, r, "n1")
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			_, err := r.SetDesired("n1", func(d *api.Desired) error {
				d.Policies = append(d.Policies, api.Policy{Name: fmt.Sprintf("p%d", i), Kind: "rule"})
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	d, err := r.DesiredFor("n1", 1)
	must(t, err)
	if len(d.Policies) != 50 || d.Generation != 50 || get(t, r, "n1").Desired.Generation != 50 {
		t.Errorf("%d policies at generation %d", len(d.Policies), d.Generation)
	}
}

func TestAnotherKeyBeginsItsSessionsAnew(t *testing.T) {
	db := openDB(t, false)
	r := newRegistry(t, Config{DB: db})
	enrol(t, r, "n1")
	must(t, r.OnBirth("n1", birth("n1", 50, "b1", 1), false), r.OnState("n1", state(api.StateOnline, 50), false),
		r.SetLabels("n1", map[string]string{"keep": "me"}))
	event := &api.Event{Epoch: 1, Seq: 1, Class: api.ClassEvent, Kind: "x", At: 1}
	if mark, err := r.Events().AppendNode("n1", event); err != nil || mark != 1 {
		t.Fatal(mark, err)
	}
	must(t, r.Enrolled(Enrolment{Node: "n1", KeySHA256: "other"}))
	if n := get(t, r, "n1"); n.Presence != api.PresenceEnrolled || n.Epoch != 0 || n.Birth != nil || n.Labels["keep"] != "me" {
		t.Errorf("%+v", n)
	}
	must(t, r.OnBirth("n1", birth("n1", 1, "b7", 1), false), r.OnState("n1", state(api.StateOnline, 1), false))
	if n := get(t, r, "n1"); n.Presence != api.PresenceOnline || n.Epoch != 1 || n.Reboots != 0 {
		t.Errorf("%+v", n)
	}
	if _, err := r.Events().AppendNode("n1", event); err != nil {
		t.Fatal(err)
	}
	if list, err := r.Events().List(EventFilter{Node: "n1", Kind: "x"}); err != nil || len(list) != 2 {
		t.Errorf("%d events of two devices with the same number, %v; wanted both", len(list), err)
	}
	if n := get(t, newRegistry(t, Config{DB: db}), "n1"); n.Epoch != 1 || n.Birth == nil || n.Birth.Boot != "b7" {
		t.Errorf("after a restart: %+v", n)
	}
}

func TestRemovedNodeDoesNotComeBackByItsOwnWord(t *testing.T) {
	db := openDB(t, false)
	r := newRegistry(t, Config{DB: db})
	enrol(t, r, "n1")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			err := r.OnState("n1", state(api.StateOnline, uint64(i+1)), false)
			if err != nil && !errors.Is(err, ErrUnknown) {
				t.Error(err)
			}
		})
		wg.Go(func() { r.Seen("n1", time.Now()) })
	}
	wg.Go(func() { must(t, r.Remove("n1", "ann")) })
	wg.Wait()
	must(t, r.flush())
	if err := r.OnBirth("n1", birth("n1", 99, "b1", 1), false); !errors.Is(err, ErrUnknown) {
		t.Errorf("birth of a removed node: %v", err)
	}
	if _, ok := newRegistry(t, Config{DB: db}).Get("n1"); ok {
		t.Error("the removed node is on disk")
	}
	if _, exists := r.Verbs("n1"); exists {
		t.Error("the removed node has verbs")
	}
}

func TestWriteThatOvertakesARemovalWritesNothing(t *testing.T) {
	db := openDB(t, false)
	r := newRegistry(t, Config{DB: db})
	enrol(t, r, "n1")
	r.mu.Lock()
	n := r.nodes["n1"]
	n.touch() // a state came in, its write is still to be made
	r.mu.Unlock()
	must(t, r.Remove("n1", "ann"))
	r.mu.Lock()
	r.nodes["n1"] = n // as another change of the removal's own transaction finds it
	r.mu.Unlock()
	must(t, r.persist("n1"))
	if _, ok := newRegistry(t, Config{DB: db}).Get("n1"); ok {
		t.Error("the write brought the node back")
	}
}

func TestWriteThatFailsIsAnErrorAndIsRepeated(t *testing.T) {
	db := openDB(t, false)
	r := newRegistry(t, Config{DB: db})
	enrol(t, r, "n1")
	path := db.Path()
	must(t, db.Close())
	if err := r.OnState("n1", state(api.StateOnline, 1), false); err == nil {
		t.Fatal("a state that could not be stored was taken")
	}
	if err := r.OnState("n1", state(api.StateOnline, 1), false); err == nil {
		t.Fatal("the same state, still not stored, was taken the second time")
	}
	again, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	defer again.Close()
	r.cfg.DB = again
	r.group = commit.New(again)
	r.events.group = r.group
	must(t, r.flush())
	n := get(t, newRegistry(t, Config{DB: again}), "n1")
	if n.Epoch != 1 {
		t.Errorf("epoch %d on disk after the disk came back; wanted 1", n.Epoch)
	}
	list, err := func() ([]api.EventRecord, error) {
		r.events.db = again
		return r.Events().List(EventFilter{Kind: "node.online"})
	}()
	if err != nil || len(list) != 1 {
		t.Errorf("%d events of the change, %v; wanted 1", len(list), err)
	}
}

func TestWatchBeginsExactlyWhereItsListEnds(t *testing.T) {
	r := newRegistry(t, Config{WatchQueue: 10_000})
	for i := range 20 {
		enrol(t, r, fmt.Sprintf("n%d", i))
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for epoch := range uint64(20) {
				must(t, r.OnState(fmt.Sprintf("n%d", i), state(api.StateOnline, epoch+1), false), r.OnState(fmt.Sprintf("n%d", i), state(api.StateLost, epoch+1), false))
			}
		})
	}
	list, w := r.Watch(t.Context())
	wg.Wait()
	must(t, r.Remove("n0", "ann"))
	seen := map[string]api.Node{}
	for _, n := range list {
		seen[n.ID] = n
	}
	last := w.From()
	for len(w.Changes()) > 0 {
		c := <-w.Changes()
		if last++; c.Version != last {
			t.Fatalf("version %d; wanted %d", c.Version, last)
		}
		if seen[c.Item.ID] = c.Item; c.Deleted {
			delete(seen, c.Item.ID)
		}
	}
	now := r.Nodes(Selector{})
	if len(now) != 19 || len(seen) != 19 {
		t.Fatalf("%d nodes, %d by list and watch; wanted 19", len(now), len(seen))
	}
	for _, n := range now {
		if s := seen[n.ID]; s.Presence != n.Presence || s.Since != n.Since {
			t.Errorf("%s is %s, the watch says %s", n.ID, n.Presence, s.Presence)
		}
	}
}

func TestBadInputIsRefusedByName(t *testing.T) {
	r := newRegistry(t, Config{})
	enrol(t, r, "n1")
	wrong := birth("n2", 1, "b", 1)
	for name, err := range map[string]error{
		"another node's birth": r.OnBirth("n1", wrong, false),
		"state":                r.OnState("n1", &api.State{State: "odd", Epoch: 1}, false),
		"report":               r.OnReported("n1", &api.Reported{}, false),
		"node id":              r.Enrolled(Enrolment{Node: "N", KeySHA256: "k"}),
		"no key":               r.Enrolled(Enrolment{Node: "n3"}),
		"label":                r.SetLabels("n1", map[string]string{"k": strings.Repeat("x", 300)}),
	} {
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v; wanted ErrInvalid", name, err)
		}
	}
	if err := r.OnState("n9", state(api.StateOnline, 1), false); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown node: %v", err)
	}
	if _, err := New(Config{DB: r.cfg.DB, Cluster: "c", Log: r.cfg.Log, LostAfter: -1}); err == nil {
		t.Error("a negative bound was taken")
	}
	blank, err := New(Config{DB: openDB(t, false), Cluster: "c", Log: r.cfg.Log})
	must(t, err)
	if err := blank.Enrolled(Enrolment{Node: "n1", KeySHA256: "k"}); !errors.Is(err, ErrNotLoaded) {
		t.Errorf("before Load: %v", err)
	}
	if err := blank.Events().Append(api.EventRecord{Kind: "x"}); !errors.Is(err, ErrNotLoaded) {
		t.Errorf("before Load: %v", err)
	}
}

func TestRunDecidesInTimeAndFlushesWhenItEnds(t *testing.T) {
	db := openDB(t, false)
	var seen time.Time
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(t, Config{DB: db})
		ended := make(chan error, 1)
		ctx := t.Context()
		go func() { ended <- r.Run(ctx) }()
		t.Cleanup(func() {
			if err := <-ended; err != nil {
				t.Errorf("Run ended with %v", err)
			}
		})
		enrol(t, r, "n1")
		must(t, r.OnState("n1", state(api.StateOnline, 1), false), r.OnState("n1", state(api.StateLost, 1), false))
		time.Sleep(24*time.Hour - time.Millisecond)
		synctest.Wait()
		if n := get(t, r, "n1"); n.Presence != api.PresenceDisconnected {
			t.Errorf("%s before its window has passed", n.Presence)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if n := get(t, r, "n1"); n.Presence != api.PresenceLost {
			t.Errorf("%s when its window has passed; wanted lost", n.Presence)
		}
		time.Sleep(time.Second)
		seen = time.Now()
		r.Seen("n1", seen)
	})
	again := newRegistry(t, Config{DB: db})
	n := get(t, again, "n1")
	if n.LastSeen != api.At(seen) || again.selfNow(again.self.BrokerAt).Attended < 24*time.Hour {
		t.Errorf("after a restart %s, seen %d, attended %s", n.Presence, n.LastSeen, again.self.Attended)
	}
}
