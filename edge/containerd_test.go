package edge

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/configs"
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
