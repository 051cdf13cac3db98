package fault

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	_, inside := os.LookupEnv(insideEnv)
	_, traced := os.LookupEnv(clockShift)
	if inside || traced {
		os.Exit((&Door{Out: os.Stdout, Err: os.Stderr}).Main(context.Background(), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// programs is where `make build` puts them.
func programs(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", "bin"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"skerry-cluster", "skerry-edge"} {
		if _, err := os.Stat(filepath.Join(dir, p)); err != nil {
			t.Fatalf("%v; run make build", err)
		}
	}
	return dir
}

// TestEveryFaultBites has each fault felt, at each of its targets: not before, not after, but in between.
func TestEveryFaultBites(t *testing.T) {
	needRoot(t)
	ctx := t.Context()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "skfault-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			_ = os.RemoveAll(dir)
		}
	})
	job := Job{Prefix: fmt.Sprintf("%s%d-bite-", spacePrefix, os.Getpid()), Dir: filepath.Join(dir, "bite"), Bin: programs(t), Bites: true,
		Length: time.Minute, Nodes: 6, Speed: 1, Only: os.Getenv("SKERRY_FAULT_ONLY")}
	list, err := job.isolate(ctx, self)
	if err != nil {
		t.Error(err)
	}
	for _, o := range list {
		for _, v := range o.Violations {
			t.Error(v)
		}
	}
	if t.Failed() {
		raw, err := os.ReadFile(filepath.Join(job.Dir, "harness.log"))
		t.Logf("%s%v", raw, err)
	}
}

// The seeds that every whole test plays, each for two minutes, which are twenty seconds: together they have every kind of fault,
// and nearly every kind at each of its targets.
const (
	fewSeeds   = "9,39,54,58,131,139,148,168"
	fewSeedFor = 2 * time.Minute
)

func TestTheFewSeedsHaveEveryFault(t *testing.T) {
	seeds, ok := seedsOf(fewSeeds)
	kinds := map[string]bool{}
	for _, seed := range seeds {
		s := Make(seed, Profile{Name: "all"}, fewSeedFor)
		for _, e := range s.Events {
			kinds[e.Fault] = true
		}
	}
	for _, k := range Kinds() {
		if !ok || !kinds[k.Name] {
			t.Errorf("none of %s has %s", fewSeeds, k.Name)
		}
	}
}

// TestTheFewSeedsAreAccountedFor plays them, two beside each other.
func TestTheFewSeedsAreAccountedFor(t *testing.T) {
	needRoot(t)
	bin, dir := programs(t), t.TempDir()
	var log bytes.Buffer
	door := &Door{Out: &log, Err: &log}
	code := door.Main(t.Context(), []string{"--seeds", fewSeeds, "--parallel", "2", "--for", fewSeedFor.String(), "--bin", bin, "--dir", dir})
	t.Logf("%s", log.String())
	if code == ExitOK {
		return
	}
	t.Errorf("exit %d", code)
	logs, err := filepath.Glob(filepath.Join(dir, "*", "harness.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range logs {
		if raw, err := os.ReadFile(path); err != nil || bytes.Contains(raw, []byte("VIOLATION")) || bytes.Contains(raw, []byte("skerry-fault: ")) {
			t.Logf("%s:\n%s%v", path, raw, err)
		}
	}
}

func TestSeedsAreReadAsAList(t *testing.T) {
	for text, want := range map[string]string{"": "[]", "7": "[7]", "1..3": "[1 2 3]", "9,2..3": "[9 2 3]"} {
		if got, ok := seedsOf(text); !ok || fmt.Sprint(got) != want {
			t.Errorf("%q is %v, %v; wanted %s", text, got, ok, want)
		}
	}
	for _, text := range []string{"x", "3..1", "1..", "..", "1,,2", "1..999999"} {
		if got, ok := seedsOf(text); ok {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestTheSameSeedIsTheSameSchedule(t *testing.T) {
	seen := map[string]bool{}
	kinds := map[string]bool{}
	for seed := range uint64(200) {
		a, b := Make(seed, Profile{Name: "all"}, 3*time.Minute), Make(seed, Profile{Name: "all"}, 3*time.Minute)
		if a.YAML() != b.YAML() {
			t.Fatalf("seed %d gives two schedules:\n%s\n%s", seed, a.YAML(), b.YAML())
		}
		if seen[a.YAML()] {
			t.Errorf("seed %d gives the schedule of another", seed)
		}
		seen[a.YAML()] = true
		busy := map[string]time.Duration{}
		for _, e := range a.Events {
			k, err := kindOf(e.Fault)
			if err != nil {
				t.Fatal(err)
			}
			kinds[e.Fault] = true
			lane := k.Lane + ":" + e.Target
			if e.At < busy[lane] || e.At+e.For > time.Duration(float64(a.Length)*settled) || !slices.Contains(k.Targets, e.Target) {
				t.Errorf("seed %d: %+v", seed, e)
			}
			busy[lane] = e.At + e.For
		}
		if len(a.Events) < 5 {
			t.Errorf("seed %d has %d faults", seed, len(a.Events))
		}
	}
	for _, k := range Kinds() {
		if !kinds[k.Name] {
			t.Errorf("no seed of 200 has %s", k.Name)
		}
	}
}

func TestAProfileIsDrawnFromItsKindsAlone(t *testing.T) {
	p, err := ProfileOf("all", []string{"kill", "loss"})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range Make(3, p, 3*time.Minute).Events {
		if !slices.Contains(p.Kinds, e.Fault) {
			t.Errorf("%s is none of %v", e.Fault, p.Kinds)
		}
	}
	if _, err := ProfileOf("none", nil); err == nil {
		t.Error("a profile that is none")
	}
	if _, err := ProfileOf("all", []string{"meteor"}); err == nil {
		t.Error("a fault that is none")
	}
}
