package edge

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/edge/workload"
	"github.com/skerry-edge/skerry/edge/workload/conformance"
)

// peerContainerd starts a containerd of its own and returns its socket.
func peerContainerd(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("containerd")
	if err == nil {
		_, err = exec.LookPath("runc")
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "config.toml"), filepath.Join(dir, "s")
	config := "version = 2\nroot = \"" + dir + "/root\"\nstate = \"" + dir + "/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"" + socket +
		"\"\n[ttrpc]\naddress = \"" + dir + "/t\"\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config", file)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("containerd:\n%s", log.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); ; {
		if _, err := os.Stat(socket); err == nil {
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatal("containerd does not listen")
		}
		<-time.After(20 * time.Millisecond)
	}
}

func TestPeerContainerdConforms(t *testing.T) {
	conformance.Test(t, func(t *testing.T) conformance.Subject {
		socket := peerContainerd(t)
		return subject(t, words, "containerd", func(cfg *configs.Workloads) { cfg.Containerd = socket })
	})
}

func TestPeerARequestOfCPUIsTheWeightOfAContainerOfContainerd(t *testing.T) {
	socket := peerContainerd(t)
	rt := subject(t, words, "containerd", func(cfg *configs.Workloads) { cfg.Containerd = socket }).Runtime
	digest, err := rt.Pull(t.Context(), words, api.PullMissing, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"asks": "cpu.shares 512 cpu.weight 20 ", "silent": "cpu.shares 2 cpu.weight 1 "} {
		mark := filepath.Base(filepath.Dir(socket)) + name + strconv.Itoa(os.Getpid())
		c := workload.Container{ID: workload.ContainerID("weight", name, 1), Workload: "weight", Name: name, Image: digest, Command: []string{"/words", "cat", "echo", mark},
			Stdin: true, Log: filepath.Join(t.TempDir(), "log"), LogBytes: 1 << 20}
		if name == "asks" {
			c.Requests.CPUMillis = 500
		}
		if err := rt.Start(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		got := weightOf(t, mark)
		for deadline := time.Now().Add(time.Minute); got == "" && time.Now().Before(deadline); got = weightOf(t, mark) {
			<-time.After(20 * time.Millisecond) // runc has been told to become the program, and may not be it yet
		}
		if got == "" || !strings.Contains(want, got) {
			t.Errorf("%s: %q; wanted one of %s", name, got, want)
		}
		if err := errors.Join(rt.Stop(t.Context(), c.ID, 0), rt.Remove(t.Context(), c.ID)); err != nil {
			t.Error(err)
		}
	}
}

func TestPeerAPathWithinAVolumeIsMountedByContainerd(t *testing.T) {
	socket := peerContainerd(t)
	rt := subject(t, words, "containerd", func(cfg *configs.Workloads) { cfg.Containerd = socket }).Runtime
	digest, err := rt.Pull(t.Context(), words, api.PullMissing, nil)
	if err != nil {
		t.Fatal(err)
	}
	volume := t.TempDir()
	sub := filepath.Join(volume, "a", "b")
	if err := errors.Join(os.MkdirAll(sub, 0o755), os.WriteFile(filepath.Join(sub, "file"), []byte("inside"), 0o644), os.Symlink("/etc", filepath.Join(volume, "link"))); err != nil {
		t.Fatal(err)
	}
	start := func(name, source, target string) (id string, err error) {
		c := workload.Container{ID: workload.ContainerID("within", name, 1), Workload: "within", Name: name, Image: digest, Command: []string{"/words", "wait"},
			Mounts: []workload.Mount{{Source: source, Within: volume, Target: target}}, Log: filepath.Join(t.TempDir(), "log"), LogBytes: 1 << 20}
		return c.ID, rt.Start(t.Context(), c)
	}
	for _, c := range []struct{ name, source, target, read string }{
		{"folder", sub, "/data/deep", "/data/deep/file"},
		{"file", filepath.Join(sub, "file"), "/data/one", "/data/one"},
	} {
		id, err := start(c.name, c.source, c.target)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		list, err := rt.List(t.Context())
		if err != nil || len(list) != 1 {
			t.Fatalf("%s: %+v, %v", c.name, list, err)
		}
		if raw, err := os.ReadFile("/proc/" + strconv.Itoa(list[0].Pid) + "/root" + c.read); err != nil || string(raw) != "inside" {
			t.Errorf("%s: the container has %q, %v", c.name, raw, err)
		}
		if err := errors.Join(rt.Stop(t.Context(), id, 0), rt.Remove(t.Context(), id)); err != nil {
			t.Error(err)
		}
	}
	if _, err := start("link", filepath.Join(volume, "link"), "/data"); err == nil {
		t.Error("a link that leads out of the volume was mounted")
	}
	if left, err := rt.List(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("left are %+v, %v", left, err)
	}
}

// weightOf is the weight of the program that has a word as its last argument, "" when there is none.
func weightOf(t *testing.T, mark string) string {
	t.Helper()
	programs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		if raw, err := os.ReadFile(program); err != nil || !strings.HasPrefix(string(raw), "/words\x00") || !strings.HasSuffix(string(raw), mark+"\x00") {
			continue // it has ended, or is another
		}
		groups, err := os.ReadFile(filepath.Join(filepath.Dir(program), "cgroup"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(groups)) {
			parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
			for _, file := range []string{"cpu/" + parts[2] + "/cpu.shares", parts[2] + "/cpu.weight"} {
				if raw, err := os.ReadFile("/sys/fs/cgroup/" + file); err == nil && (parts[1] == "" || strings.HasPrefix(parts[1], "cpu,") || parts[1] == "cpu") {
					return filepath.Base(file) + " " + strings.TrimSpace(string(raw)) + " "
				}
			}
		}
	}
	return ""
}
