package system

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/freeport"
)

// TestExternalMosquitto runs the cluster agent with mosquitto in place of its own broker, configured by
// `skerry-cluster broker-config`.
func TestExternalMosquitto(t *testing.T) {
	t.Parallel()
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "broker")
	address := freeport.Addr(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	program, err := Program("skerry-cluster")
	if err != nil {
		t.Fatal(err)
	}
	said, err := exec.CommandContext(t.Context(), program, "broker-config", "--out", out, "--set", "cluster=test",
		"--set", "dir="+filepath.Join(dir, "cluster"), "--set", "mqtt.external=mqtts://"+address, "--set", "advertise=127.0.0.1").CombinedOutput()
	if err != nil {
		t.Fatalf("broker-config: %v\n%s", err, said)
	}
	mosquitto(t, dir, out, port)
	f := fieldIn(t, dir, "mqtt.external=mqtts://"+address, "mqtt.node_servers=mqtts://"+address)
	if got := f.status.MQTT; len(got) != 1 || got[0] != "mqtts://"+address {
		t.Errorf("nodes are sent to %v; wanted %s", got, address)
	}
	node := f.node("n1", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "")
	start(t, node)
	f.online("n1")
	f.ping("n1")
	kill(t, node)
	poll(t, 2*time.Minute, "mosquitto tells of the node's end", func() error {
		var n api.Node
		if err := f.get("/v1/nodes/n1", &n); err != nil || n.Presence == api.PresenceOnline {
			return fmt.Errorf("presence %s, error %w", n.Presence, err)
		}
		return nil
	})
}

// mosquitto starts a broker with the generated files, as they are.
func mosquitto(t *testing.T, dir, conf, port string) *Process {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal("mosquitto is missing; run make deps")
	}
	// The tests' own directory is root's alone, unlike /etc: mosquitto's user has to get through it to its files.
	if err := os.Chmod(filepath.Dir(filepath.Dir(conf)), 0o711); err != nil {
		t.Fatal(err)
	}
	p := &Process{Name: "mosquitto", Log: filepath.Join(dir, "mosquitto.log"), Program: path, Args: []string{"-v", "-c", filepath.Join(conf, "mosquitto.conf")}}
	cleanup(t, p)
	start(t, p)
	poll(t, time.Minute, "mosquitto listens", func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return p
}
