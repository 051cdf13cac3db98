package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const hybridMounts = `30 25 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 30 0:29 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,name=systemd
34 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 30 0:31 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
36 30 0:31 /docker/abc /mnt/my\040memory rw - cgroup cgroup rw,memory
37 30 0:32 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
`

const hybridOwn = `4:cpu,cpuacct:/system.slice/skerry.service
3:memory:/docker/abc/inner
2:name=systemd:/system.slice
0::/system.slice/skerry.service
`

func TestHierarchiesAreFoundAsTheyAreMounted(t *testing.T) {
	tree := parse([]byte(hybridMounts), []byte(hybridOwn))
	got := tree.Dirs("/skerry", "w_a_0")
	want := []string{"/sys/fs/cgroup/cpu,cpuacct/skerry/w_a_0", "/sys/fs/cgroup/memory/skerry/w_a_0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v; wanted %v", got, want)
	}
	got = tree.Dirs("./below", "w_a_0")
	want = []string{"/sys/fs/cgroup/cpu,cpuacct/system.slice/skerry.service/below/w_a_0", "/sys/fs/cgroup/memory/inner/below/w_a_0"}
	if !slices.Equal(got, want) {
		t.Errorf("below the agent's: got %v; wanted %v", got, want)
	}
	if got := tree.Dirs("/../../etc", "x"); strings.Contains(strings.Join(got, " "), "..") || !strings.HasPrefix(got[0], "/sys/fs/cgroup/") {
		t.Errorf("a path that leaves the hierarchy: %v", got)
	}
}

// fake is a group with the files of one version, as this kernel may have but the other.
func fake(t *testing.T, files map[string]string) (*Group, func(name string) string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	g, err := Open([]string{dir, filepath.Join(dir, "gone")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g, func(name string) string {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
}

func TestLimitsAndUsageOfVersion2(t *testing.T) {
	g, read := fake(t, map[string]string{"memory.max": "", "memory.swap.max": "", "cpu.max": "", "pids.max": "", "memory.oom.group": "",
		"memory.current": "5000", "memory.stat": "anon 3000\ninactive_file 1000\n", "pids.current": "4",
		"cpu.stat":      "usage_usec 1500\nuser_usec 1\nthrottled_usec 20\n",
		"memory.events": "low 0\noom 3\noom_kill 2\n"})
	if err := g.Set(Limits{MemoryBytes: 1 << 20, CPUMillis: 250, Processes: 9}); err != nil {
		t.Fatal(err)
	}
	if read("memory.max") != "1048576" || read("memory.swap.max") != "0" || read("cpu.max") != "25000 100000" || read("pids.max") != "9" {
		t.Errorf("memory %s swap %s cpu %s pids %s", read("memory.max"), read("memory.swap.max"), read("cpu.max"), read("pids.max"))
	}
	if u := g.Usage(); u.CPU != 1_500_000 || u.Throttled != 20_000 || u.Memory != 4000 || u.RSS != 3000 || u.Processes != 4 {
		t.Errorf("usage %+v", u)
	}
	if n := g.OOMKills(); n != 2 {
		t.Errorf("%d OOM kills; wanted 2", n)
	}
}

func TestLimitsAndUsageOfVersion1(t *testing.T) {
	g, read := fake(t, map[string]string{"memory.limit_in_bytes": "", "memory.memsw.limit_in_bytes": "", "cpu.cfs_quota_us": "",
		"cpuacct.usage": "77", "cpu.stat": "nr_periods 1\nthrottled_time 33\n", "memory.usage_in_bytes": "900",
		"memory.stat": "rss 1\ntotal_rss 500\ntotal_inactive_file 1000\n", "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"})
	if err := g.Set(Limits{MemoryBytes: 4096, CPUMillis: 5}); err != nil {
		t.Fatal(err)
	}
	if read("memory.limit_in_bytes") != "4096" || read("memory.memsw.limit_in_bytes") != "4096" || read("cpu.cfs_quota_us") != "1000" {
		t.Errorf("memory %s with swap %s cpu %s", read("memory.limit_in_bytes"), read("memory.memsw.limit_in_bytes"), read("cpu.cfs_quota_us"))
	}
	if u := g.Usage(); u.CPU != 77 || u.Throttled != 33 || u.Memory != 0 || u.RSS != 500 {
		t.Errorf("usage %+v", u)
	}
	if n := g.OOMKills(); n != 1 {
		t.Errorf("%d OOM kills; wanted 1", n)
	}
}

func TestARequestOfCPUWeighsAsAKubeletHasIt(t *testing.T) {
	for millis, want := range map[int64][2]string{0: {"2", "1"}, 1: {"2", "1"}, 100: {"102", "4"}, 1000: {"1024", "39"}, 1_000_000: {"262144", "10000"}} {
		g, read := fake(t, map[string]string{"cpu.shares": "", "cpu.weight": ""})
		if held, err := g.Weigh(Shares(millis)); err != nil || !held || read("cpu.shares") != want[0] || read("cpu.weight") != want[1] {
			t.Errorf("%dm: shares %s, weight %s, %v; wanted %v", millis, read("cpu.shares"), read("cpu.weight"), err, want)
		}
	}
	g, _ := fake(t, nil)
	if held, err := g.Weigh(1024); held || err != nil {
		t.Errorf("a kernel without weights: %v, %v", held, err)
	}
}

func TestALimitThatNobodyHoldsIsAnError(t *testing.T) {
	g, _ := fake(t, nil)
	for _, l := range []Limits{{MemoryBytes: 1 << 20}, {CPUMillis: 100}} {
		if err := g.Set(l); err == nil || !strings.Contains(err.Error(), "control group") {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

func TestAGroupIsKilledToTheLast(t *testing.T) {
	tree, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := tree.Create("./skerry-test", fmt.Sprintf("killed_%d", os.Getpid())) // another run may be at it
	if err != nil || len(dirs) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v, %v", dirs, err)
		}
		t.Skip("no control groups here: ", err)
	}
	g, err := Open(dirs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(g.Pids(), cmd.Process.Pid) {
		t.Errorf("processes %v; wanted %d", g.Pids(), cmd.Process.Pid)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := g.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("it ended by itself")
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if err := Remove(dirs); err != nil {
		t.Error(err)
	}
	if err := Remove(dirs); err != nil {
		t.Errorf("again: %v", err)
	}
}

func FuzzHierarchies(f *testing.F) {
	f.Add([]byte(hybridMounts), []byte(hybridOwn))
	f.Add([]byte(" - "), []byte("::"))
	f.Add([]byte("1 2 0:3 / ./ rw - cgroup2 cgroup rw"), []byte("0::/"))
	f.Fuzz(func(t *testing.T, mounts, own []byte) {
		tree := parse(mounts, own)
		for i := range tree.hierarchies {
			h := &tree.hierarchies[i]
			if dir := h.dir("./../..", "x"); !strings.HasPrefix(dir, filepath.Clean(h.mount)) {
				t.Fatalf("%s is not within %s", dir, h.mount)
			}
		}
	})
}
