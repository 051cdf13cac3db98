package system

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/registry"
)

// fleetOfOne is a device without an init system whose agent is updated, with a workload that has to go on through everything.
type fleetOfOne struct {
	*field
	key      ed25519.PrivateKey
	versions map[string]string // of the two real programs: where they lie
	node     *Process
	stop     chan struct{}
	init     sync.WaitGroup
	mu       sync.Mutex // guards node against the init
	workload int        // pid; 0: this machine runs none
}

const (
	oldVersion, newVersion = "1.0.0", "1.1.0"
	trialWindow            = 25 * time.Second
	updateDeadline         = "11m" // a supervisor waits up to 5 minutes for an agent that was killed again and again
)

func newFleetOfOne(t *testing.T) *fleetOfOne {
	t.Helper()
	f := &fleetOfOne{field: newField(t), stop: make(chan struct{}), versions: map[string]string{}}
	f.key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	for _, v := range []string{oldVersion, newVersion} {
		program, err := BuildEdge(t.Context(), f.dir, v, "lite")
		if err != nil {
			t.Fatal(err)
		}
		f.versions[v] = program
		f.publish(v, program)
	}
	installed := filepath.Join(f.dir, "installed", "skerry-edge")
	if err := os.MkdirAll(filepath.Dir(installed), 0o755); err != nil {
		t.Fatal(err)
	}
	copyFile(t, f.versions[oldVersion], installed)
	key := release.KeyOf(f.key.Public().(ed25519.PublicKey))
	f.node = f.field.node("n1", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join,
		fmt.Sprintf("telemetry: {interval: 1s}\nupdate: {keys: [%s], window: %s}\n", key, trialWindow))
	f.node.Program, f.node.Args[0] = installed, "supervise"
	f.beInit()
	t.Cleanup(f.shutDown)
	f.online("n1")
	f.runWorkload()
	return f
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, raw, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// beInit starts the supervisor, again whenever it ends, as nobody does on such a device but somebody's hand.
func (f *fleetOfOne) beInit() {
	start(f.t, f.node)
	f.init.Go(func() {
		for {
			f.mu.Lock()
			done := f.node.done
			f.mu.Unlock()
			select {
			case <-f.stop:
				return
			case <-done:
			}
			if !wait(f.t, 300*time.Millisecond) {
				return
			}
			f.mu.Lock()
			err := f.node.Start()
			f.mu.Unlock()
			if err != nil {
				f.t.Error(err)
				return
			}
		}
	})
}

// shutDown ends the init and whatever it left running.
func (f *fleetOfOne) shutDown() {
	close(f.stop)
	f.init.Wait()
	for _, pid := range f.agents() {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
	if f.workload == 0 {
		return
	}
	shim := parentOf(f.workload)
	if raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", shim)); err == nil && strings.Contains(string(raw), "shim") {
		_ = syscall.Kill(shim, syscall.SIGKILL)
	}
	_ = syscall.Kill(f.workload, syscall.SIGKILL)
}

func parentOf(pid int) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	ppid, _ := strconv.Atoi(fields[1])
	return ppid
}

// agents are the processes of the device's agent: supervisor, launcher, agent. Shims are none of them.
func (f *fleetOfOne) agents() []int {
	var out []int
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range list {
		raw, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(raw), filepath.Join(f.dir, "n1", "edge.yaml")) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		out = append(out, pid)
	}
	slices.Sort(out)
	return out
}

// cmdline is what a process was started with.
func cmdline(pid int) string {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // empty: it has ended
	return string(bytes.ReplaceAll(raw, []byte{0}, []byte{' '}))
}

// publish makes a release of a program, and imports it.
func (f *fleetOfOne) publish(version, program string) {
	f.t.Helper()
	all, err := Release(version, program, "lite", f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	f.upload("/v1/releases", all)
}

func (f *fleetOfOne) upload(path string, in io.Reader) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Minute)
	defer cancel()
	resp, err := f.client.Do(ctx, http.MethodPost, path, in)
	if err != nil {
		f.t.Fatalf("upload to %s: %v", path, err)
	}
	_ = resp.Body.Close()
}

// marks counts the workloads of this run.
var marks atomic.Uint32

// runWorkload has the node run a container, where the machine lets it.
func (f *fleetOfOne) runWorkload() {
	f.t.Helper()
	var n api.Node
	if err := f.get("/v1/nodes/n1", &n); err != nil {
		f.t.Fatal(err)
	}
	busybox, err := os.ReadFile("/usr/bin/busybox")
	if err != nil || n.Birth == nil || len(n.Birth.Runtimes) == 0 {
		if os.Getenv("CI") != "" {
			f.t.Fatalf("no workload can run here: %v, runtimes of the node: %v", err, n.Birth)
		}
		f.t.Log("no workload runs: this machine has no static busybox, or lets nobody make containers")
		return
	}
	var layer bytes.Buffer
	if err := archive(&layer, member{"busybox", busybox}); err != nil {
		f.t.Fatal(err)
	}
	f.upload("/v1/images?name=docker.io/test/app:1", imageOf(f.t, layer.Bytes()))
	mark := fmt.Sprintf("8%d%03d", os.Getpid(), marks.Add(1)) // tells the process from others, also of tests beside this one
	kill(f.t, f.cluster)
	wl := api.Workload{Name: "app", Restart: api.RestartAlways, Containers: []api.Container{{Name: "app", Image: "docker.io/test/app:1",
		Command: []string{"/busybox", "sleep", mark}}}}
	setWorkload(f.t, filepath.Join(f.dir, "cluster", "cluster.db"), wl)
	start(f.t, f.cluster)
	poll(f.t, 2*time.Minute, "the workload runs", func() error {
		list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range list {
			if raw, err := os.ReadFile(path); err == nil && string(raw) == "/busybox\x00sleep\x00"+mark+"\x00" {
				f.workload, err = strconv.Atoi(filepath.Base(filepath.Dir(path)))
				return err
			}
		}
		var n api.Node
		err := f.get("/v1/nodes/n1", &n)
		told, _ := json.Marshal(n.Reported)
		return fmt.Errorf("no process; reported %s, %v", told, err)
	})
}

func imageOf(t *testing.T, layer []byte) io.Reader {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer)), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Config = "linux", runtime.GOARCH, v1.Config{}
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("test/app:1")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := tarball.Write(tag, img, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

// setWorkload writes into the store of a cluster agent that does not run: in a site without Kubernetes nobody else orders workloads.
func setWorkload(t *testing.T, path string, w api.Workload) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 5 * time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	r, err := registry.New(registry.Config{DB: db, Cluster: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Load(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.SetDesired("n1", func(d *api.Desired) error { d.Workloads = []api.Workload{w}; return nil }); err != nil {
		t.Fatal(err)
	}
}

// version is that of the agent that is online.
func (f *fleetOfOne) version() string {
	f.t.Helper()
	var v string
	poll(f.t, 2*time.Minute, "n1 is online", func() error {
		var n api.Node
		if err := f.get("/v1/nodes/n1", &n); err != nil {
			return err
		}
		if n.Presence != api.PresenceOnline || n.Birth == nil {
			return fmt.Errorf("presence %s", n.Presence)
		}
		v = n.Birth.Version
		return nil
	})
	return v
}

// order orders an update, and returns the id of its command.
func (f *fleetOfOne) order(version string) string {
	f.t.Helper()
	var list api.List[api.CommandRecord]
	err := f.post("/v1/commands", api.CommandRequest{Nodes: []string{"n1"}, Verb: "agent.update", Args: map[string]any{"version": version, "force": true},
		Deadline: updateDeadline}, &list)
	if err != nil {
		f.t.Fatal(err)
	}
	return list.Items[0].ID
}

// end waits for the one end of a command.
func (f *fleetOfOne) end(id string) api.CommandRecord {
	f.t.Helper()
	var rec api.CommandRecord
	poll(f.t, 12*time.Minute, "the update ends", func() error {
		if err := f.get("/v1/commands/"+url.PathEscape(id), &rec); err != nil {
			return err
		}
		if !rec.Final {
			return fmt.Errorf("phase %s, history %v", rec.Phase, rec.History)
		}
		return nil
	})
	finals := 0
	for _, h := range rec.History {
		if h.Phase.Final() {
			finals++
		}
	}
	if finals != 1 {
		f.t.Errorf("command %s has %d ends: %v", id, finals, rec.History)
	}
	return rec
}

// sound wants an agent that has proved itself, that does as it is told, and the workload as it was.
func (f *fleetOfOne) sound(want ...string) {
	f.t.Helper()
	poll(f.t, time.Minute, "a program that proved itself is online", func() error {
		if v := f.version(); !slices.Contains(want, v) {
			return fmt.Errorf("version %s; wanted one of %v", v, want)
		}
		return nil
	})
	f.ping("n1")
	if f.workload != 0 && syscall.Kill(f.workload, 0) != nil {
		f.t.Fatalf("the workload's process %d is gone", f.workload)
	}
}

// updates is how many are made: SKERRY_UPDATES is a number, or all.
func updates(t *testing.T, quick, all int) int {
	t.Helper()
	switch text := os.Getenv("SKERRY_UPDATES"); text {
	case "":
		return quick
	case "all":
		return all
	default:
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("SKERRY_UPDATES %q; wanted a number above 0, or all", text)
		}
		return n
	}
}

// TestUpdatesSurviveKillsAtRandomPoints updates forwards and back, and kills supervisor, launcher, agent, or the check of the new program
// meanwhile, once or twice: each update succeeds all the same. SKERRY_UPDATES=all does it a hundred times.
func TestUpdatesSurviveKillsAtRandomPoints(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	f := newFleetOfOne(t)
	phases := map[api.Phase]int{}
	for i := range updates(t, 6, 100) {
		target := newVersion
		if f.version() == newVersion {
			target = oldVersion
		}
		id := f.order(target)
		var killed []string
		for range 1 + dice.IntN(2) {
			if !wait(t, time.Duration(dice.Int64N(int64(6*time.Second)))) {
				return
			}
			if pids := f.agents(); len(pids) > 0 {
				pid := pids[dice.IntN(len(pids))]
				killed = append(killed, fmt.Sprintf("%s %d: %s", time.Now().UTC().Format(time.StampMilli), pid, cmdline(pid)))
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
			}
		}
		rec := f.end(id)
		phases[rec.Phase]++
		if rec.Phase != api.PhaseSucceeded { // nobody is killed so often that it looks like a crash loop
			t.Errorf("update %d: %s: %+v, killed %q", i, rec.Phase, rec.Status, killed)
		}
		f.sound(target)
		if t.Failed() {
			t.Fatalf("update %d: %v", i, rec)
		}
	}
	t.Logf("ends: %v", phases)
}

func wait(t *testing.T, d time.Duration) bool {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.Context().Done():
		return false
	}
}

// TestABrokenProgramIsTakenBack publishes programs that are broken in every way, and wants the one before back each time, by itself.
// SKERRY_UPDATES=all does it twenty times.
func TestABrokenProgramIsTakenBack(t *testing.T) {
	t.Parallel()
	f := newFleetOfOne(t)
	foreign, err := os.ReadFile(f.versions[newVersion])
	if err != nil {
		t.Fatal(err)
	}
	foreign[18] = 0xB7 // e_machine: AArch64
	if runtime.GOARCH == "arm64" {
		foreign[18] = 0x3E
	}
	script := func(version, run string) []byte {
		return []byte("#!/bin/sh\ncase \"$1\" in version) echo \"skerry-edge " + version + " (test)\"; exit 0;; config) exit 0;; esac\n" + run + "\n")
	}
	kinds := []struct {
		name    string
		program func(version string) []byte
		tried   bool // is on trial, rather than refused before
	}{
		{"exits at once", func(v string) []byte { return script(v, "exit 2") }, true},
		{"hangs", func(v string) []byte { return script(v, "exec sleep 1000000") }, true},
		{"cannot connect", func(v string) []byte {
			return script(v, "exec "+f.versions[newVersion]+` "$@" --set mqtt.servers=mqtts://127.0.0.1:1`)
		}, true},
		{"garbage", func(string) []byte { return bytes.Repeat([]byte{0xde, 0xad}, 50_000) }, false},
		{"another machine's", func(string) []byte { return foreign }, false},
	}
	for i := range updates(t, len(kinds), 20) {
		kind := kinds[i%len(kinds)]
		version := fmt.Sprintf("2.0.%d", i)
		path := filepath.Join(f.dir, "broken")
		if err := os.WriteFile(path, kind.program(version), 0o755); err != nil {
			t.Fatal(err)
		}
		f.publish(version, path)
		rec := f.end(f.order(version))
		if rec.Phase != api.PhaseFailed || rec.Status == nil || strings.Contains(rec.Status.Reason, "did not prove itself") != kind.tried {
			t.Errorf("%s: %s: %+v; wanted it to fail, on trial: %v", kind.name, rec.Phase, rec.Status, kind.tried)
		} else {
			t.Logf("%s: %s", kind.name, rec.Status.Reason)
		}
		f.sound(oldVersion)
	}
}

// assign states which version the node should be.
func (f *fleetOfOne) assign(req api.AgentRequest) {
	f.t.Helper()
	raw, err := json.Marshal(req)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	defer cancel()
	resp, err := f.client.Do(ctx, http.MethodPut, "/v1/nodes/n1/agent", bytes.NewReader(raw))
	if err != nil {
		f.t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// tells waits until the node reports that it stands so to what was stated last, and returns why.
func (f *fleetOfOne) tells(state, version string) string {
	f.t.Helper()
	var why string
	poll(f.t, 3*time.Minute, "the node is "+version+", "+state, func() error {
		var n api.Node
		if err := f.get("/v1/nodes/n1", &n); err != nil {
			return err
		}
		if n.Presence != api.PresenceOnline || n.Reported == nil || n.Reported.Agent == nil || n.Wanted == nil {
			return fmt.Errorf("%s, reported %+v", n.Presence, n.Reported)
		}
		is := n.Reported.Agent
		if is.Try != n.Wanted.Try || is.State != state || is.Version != version || is.Wanted != n.Wanted.Version {
			return fmt.Errorf("%+v of %+v", is, n.Wanted)
		}
		why = is.Reason
		return nil
	})
	return why
}

// trials counts how often a version was on trial, as the node tells.
func (f *fleetOfOne) trials(version string) (n int) {
	f.t.Helper()
	var events api.List[api.EventRecord]
	if err := f.get("/v1/events?node=n1&limit=1000", &events); err != nil {
		f.t.Fatal(err)
	}
	for _, e := range events.Items {
		if e.Kind == "update.step" && e.Object == version && strings.HasPrefix(e.Message, "switching") {
			n++
		}
	}
	return n
}

// TestANodeComesToTheVersionThatIsStated states versions in the desired document: one that is good, also while the node is away, and one that
// breaks, which is tried once, whatever is restarted, until it is stated anew.
func TestANodeComesToTheVersionThatIsStated(t *testing.T) {
	t.Parallel()
	f := newFleetOfOne(t)
	broken := filepath.Join(f.dir, "broken")
	text := "#!/bin/sh\ncase \"$1\" in version) echo \"skerry-edge 2.0.0 (test)\"; exit 0;; config) exit 0;; esac\nexit 2\n"
	if err := os.WriteFile(broken, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	f.publish("2.0.0", broken)
	f.assign(api.AgentRequest{Version: "2.0.0"})
	if why := f.tells(api.AgentFailed, oldVersion); !strings.Contains(why, "did not prove itself") {
		t.Errorf("reason %q", why)
	}
	f.sound(oldVersion)
	again := func(want int, what string) {
		t.Helper()
		f.tells(api.AgentFailed, oldVersion)
		if got := f.trials("2.0.0"); got != want {
			t.Fatalf("%s: %d trials; wanted %d", what, got, want)
		}
	}
	again(1, "stated")
	for _, pid := range f.agents() {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
	f.ping("n1")
	kill(t, f.cluster)
	start(t, f.cluster)
	f.online("n1")
	f.assign(api.AgentRequest{Version: "2.0.0"})
	again(1, "after restarts of node and cluster agent, and stated as before")
	f.assign(api.AgentRequest{Version: "2.0.0", Retry: true})
	poll(t, time.Minute, "it is tried again", func() error {
		if got := f.trials("2.0.0"); got != 2 {
			return fmt.Errorf("%d trials", got)
		}
		return nil
	})
	again(2, "told to try again")

	f.assign(api.AgentRequest{Version: newVersion})
	for _, pid := range f.agents() { // wherever it is
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
	f.tells(api.AgentCurrent, newVersion)
	f.sound(newVersion)
	if rec := f.end(f.order(oldVersion)); rec.Phase != api.PhaseSucceeded { // by hand, and forced
		t.Errorf("%+v", rec)
	}
	f.sound(newVersion) // what is stated holds
	f.tells(api.AgentCurrent, newVersion)
}

// TestAProgramThatIsInstalledAnewCounts writes the very program anew that the node has replaced by an update, as install.sh does for who asks for
// its version by name.
func TestAProgramThatIsInstalledAnewCounts(t *testing.T) {
	t.Parallel()
	f := newFleetOfOne(t)
	if rec := f.end(f.order(newVersion)); rec.Phase != api.PhaseSucceeded {
		t.Fatalf("%+v", rec)
	}
	end := func() {
		for _, pid := range f.agents() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
	end()
	f.sound(newVersion)
	installed := f.node.Program
	copyFile(t, installed, installed+".new")
	if err := os.Rename(installed+".new", installed); err != nil {
		t.Fatal(err)
	}
	end()
	f.sound(oldVersion)
	if rec := f.end(f.order(newVersion)); rec.Phase != api.PhaseSucceeded {
		t.Errorf("after that: %+v", rec)
	}
	f.sound(newVersion)
}

// TestARolloutGoesOnAfterItsClusterAgentWasKilled rolls a release out to the device, which was offline first, and kills the cluster agent meanwhile.
func TestARolloutGoesOnAfterItsClusterAgentWasKilled(t *testing.T) {
	t.Parallel()
	f := newFleetOfOne(t)
	var r api.Rollout
	if err := f.post("/v1/rollouts", api.RolloutSpec{Name: "v2", Version: "3.0.0", Nodes: []string{"n1"}}, &r); err == nil {
		t.Fatal("a rollout of a release that is not kept was begun")
	}
	if err := f.post("/v1/rollouts", api.RolloutSpec{Name: "v2", Version: newVersion, Selector: "=", Batch: "1"}, &r); err != nil {
		t.Fatal(err)
	}
	poll(t, time.Minute, "the update is ordered", func() error {
		if err := f.get("/v1/rollouts/v2", &r); err != nil {
			return err
		}
		if r.Counts.Updating+r.Counts.Succeeded != 1 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	kill(t, f.cluster)
	start(t, f.cluster)
	poll(t, 4*time.Minute, "the rollout succeeds", func() error {
		if err := f.get("/v1/rollouts/v2", &r); err != nil {
			return err
		}
		if r.State != api.RolloutSucceeded || r.Counts.Succeeded != 1 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	f.sound(newVersion)
	var commands api.List[api.CommandRecord]
	if err := f.get("/v1/commands?limit=100", &commands); err != nil {
		t.Fatal(err)
	}
	updates := 0
	for _, c := range commands.Items {
		if c.Verb == "agent.update" {
			updates++
		}
	}
	if updates != 1 {
		t.Errorf("%d updates were ordered; wanted one", updates)
	}
}
