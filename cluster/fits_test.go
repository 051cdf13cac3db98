package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

func TestAnAgentForAnotherMachineFitsNone(t *testing.T) {
	for machine, want := range map[string]string{"": "amd64 arm64 armv6 armv7", "amd64": "amd64", "arm64": "arm64", "armv7": "armv6 armv7", "armv6": "armv6",
		"armv5": "", "arm": "armv6 armv7", "riscv64": ""} {
		var fits []string
		for _, target := range strings.Fields("amd64 arm64 armv6 armv7") {
			if hasTarget([]string{"linux-" + target + "/lite"}, machine) {
				fits = append(fits, target)
			}
		}
		if got := strings.Join(fits, " "); got != want {
			t.Errorf("%q runs %s; wanted %s", machine, got, want)
		}
	}
	if got := some(strings.Fields("a b c d e f g h i j k l")); got != "a, b, c, d, e, f, g, h, i, j and 2 more" {
		t.Error(got)
	}
}

// bring imports a release with an agent for one target.
func (r *rig) bring(version, target string) api.Release {
	r.t.Helper()
	content := []byte("agent of " + version)
	sum := sha256.Sum256(content)
	man := release.Manifest{Format: release.Format, Version: version, Built: time.Unix(1790000000, 0).UTC(), Files: []release.File{{Name: "edge.tar.gz",
		SHA256: hex.EncodeToString(sum[:]), Size: int64(len(content)), Kind: release.KindArchive, Program: "skerry-edge", Variant: "lite", Target: target}}}
	text, err := man.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	sig, err := release.Sign(text, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize)), "test")
	if err != nil {
		r.t.Fatal(err)
	}
	var all bytes.Buffer
	w := tar.NewWriter(&all)
	for name, raw := range map[string][]byte{release.ManifestName: text, release.SignatureName: sig, "edge.tar.gz": content} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(raw))}); err != nil {
			r.t.Fatal(err)
		}
		if _, err := w.Write(raw); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		r.t.Fatal(err)
	}
	rel, err := (releaseStore{r.Agent}).Import(r.t.Context(), &all)
	if err != nil {
		r.t.Fatal(err)
	}
	return rel
}

// TestAReleaseGoesToNodesThatItHasAnAgentForAndStaysWhileItIsNeeded has a node on amd64 and releases for it and for another machine.
func TestAReleaseGoesToNodesThatItHasAnAgentForAndStaysWhileItIsNeeded(t *testing.T) {
	r := newRig(t, nil)
	d := r.online("n1", r.enrol("n1"), 1, false)
	update := api.Verb{Name: "agent.update", Role: api.RoleAdmin, Args: api.Schema{Type: "object", Properties: map[string]api.Schema{"version": {Type: "string"},
		"window": {Type: "string"}}}}
	now := api.At(time.Now())
	d.say(r.topic(mqtt.KindBirth, "n1", ""), true, api.Birth{Node: "n1", Cluster: "c1", Epoch: 1, Boot: "b", At: now, TimeQuality: api.TimeSynced, Started: now,
		Version: "1.0.0", Host: api.Host{Arch: "amd64"}, Verbs: []api.Verb{update}, IntervalMillis: 10_000})
	eventually(t, "its machine is known", func() bool { return must[api.Node](r, "GET", "/v1/nodes/n1", nil).Birth.Host.Arch == "amd64" })
	if got := r.bring("1.4.0", "linux-arm64"); !got.Unchecked {
		t.Errorf("%+v; wanted it to be told that nobody checked the signature", got)
	}
	refused := func(method, path, body, want string) {
		t.Helper()
		if status, text := r.call(r.root(), method, path, body); status != 409 || !strings.Contains(text, want) {
			t.Errorf("%s %s: %d %s; wanted %q", method, path, status, text, want)
		}
	}
	refused("PUT", "/v1/nodes/n1/agent", `{"version":"1.4.0"}`, "without a node agent for n1 (amd64)")
	refused("POST", "/v1/rollouts", `{"name":"v140","version":"1.4.0","nodes":["n1"]}`, "without a node agent for n1 (amd64)")

	r.bring("1.5.0", "linux-amd64")
	must[api.Node](r, "PUT", "/v1/nodes/n1/agent", api.AgentRequest{Version: "1.5.0"})
	refused("DELETE", "/v1/releases/1.5.0", "", "node n1, which is assigned it")
	must[struct{}](r, "DELETE", "/v1/nodes/n1/agent", nil)
	at := time.Now().UTC().Add(-time.Hour)
	window := fmt.Sprintf("%s-%s", at.Format("15:04"), at.Add(2*time.Hour).Format("15:04"))
	ro := must[api.Rollout](r, "POST", "/v1/rollouts", api.RolloutSpec{Name: "v150", Version: "1.5.0", Nodes: []string{"n1"}, Window: window})
	refused("DELETE", "/v1/releases/1.5.0", "", "rollout v150, which is running")
	eventually(t, "the node is ordered, and told of the window", func() bool {
		members := must[api.Rollout](r, "GET", "/v1/rollouts/"+ro.Name, nil).Members
		if members[0].Command == "" {
			return false
		}
		status, text := r.call(r.root(), "GET", "/v1/commands/"+members[0].Command, "")
		return status == 200 && strings.Contains(text, `"window":"`+window+`"`)
	})
	must[api.Rollout](r, "POST", "/v1/rollouts/v150/pause", struct{}{})
	refused("DELETE", "/v1/releases/1.5.0", "", "rollout v150, which is paused")
	must[struct{}](r, "DELETE", "/v1/releases/1.5.0?force=true", nil)
	r.bring("1.5.0", "linux-amd64")
	must[api.Rollout](r, "POST", "/v1/rollouts/v150/abort", struct{}{})
	if status, text := r.call(r.root(), "POST", "/v1/rollouts/v150/pause", "{}"); status != 409 || !strings.Contains(text, `"rollout v150 is aborted;`) {
		t.Errorf("%d %s; wanted to be told its state, and of no other rollout", status, text)
	}
	must[struct{}](r, "DELETE", "/v1/releases/1.5.0", nil)
}

// TestARolloutOrAnAssignmentReadsTheManifestOfItsReleaseOnce counts how often the kernel sees it opened.
func TestARolloutOrAnAssignmentReadsTheManifestOfItsReleaseOnce(t *testing.T) {
	r := newRig(t, nil)
	for _, n := range []string{"n1", "n2"} {
		r.enrol(n)
	}
	r.bring("1.5.0", "linux-amd64")
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	seen := os.NewFile(uintptr(fd), "inotify")
	defer seen.Close()
	if _, err := unix.InotifyAddWatch(fd, filepath.Join(r.dir, "releases", "1.5.0", release.ManifestName), unix.IN_OPEN|unix.IN_CLOSE_NOWRITE); err != nil {
		t.Fatal(err)
	}
	once := func(what string) {
		t.Helper()
		n, err := unix.Read(fd, make([]byte, 64*unix.SizeofInotifyEvent))
		if err != nil || n != 2*unix.SizeofInotifyEvent { // opened and closed: openings alone are told as one
			t.Errorf("%s: %d events, %v; wanted it opened and closed once", what, n/unix.SizeofInotifyEvent, err)
		}
	}
	must[api.Rollout](r, "POST", "/v1/rollouts", api.RolloutSpec{Name: "v150", Version: "1.5.0", Nodes: []string{"n1"}})
	once("a rollout")
	must[api.Node](r, "PUT", "/v1/nodes/n2/agent", api.AgentRequest{Version: "1.5.0"})
	once("an assignment")
}
