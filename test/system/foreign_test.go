package system

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// TestForeignClients speaks with mosquitto's own clients to the embedded broker: an operator's certificate reads
// telemetry and has a ping answered; a node's certificate does neither.
func TestForeignClients(t *testing.T) {
	f := newField(t)
	node := f.node("n1", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "telemetry: {interval: 1s}\n")
	start(t, node)
	f.online("n1")
	base := f.status.Root + "/" + f.status.Cluster + "/n1"
	f.operatorCertificate("alice", "bob")
	alice, bob, thief := f.foreign("alice"), f.foreign("bob"), f.foreign(f.stolen("n1"))

	if out, err := alice(t, "mosquitto_sub", "-i", "alice", "-q", "1", "-t", base+"/tele", "-C", "1", "-W", "50"); err != nil ||
		!strings.Contains(out, "node_") {
		t.Errorf("telemetry for an operator: %v\n%s", err, out)
	}

	answer := make(chan string, 1)
	go func() {
		out, err := alice(t, "mosquitto_sub", "-i", "alice", "-q", "1", "-t", base+"/request/try1/status", "-C", "1", "-W", "50")
		if err != nil {
			out += err.Error()
		}
		answer <- out
	}()
	var status api.Status
	poll(t, time.Minute, "the ping is answered", func() error {
		// The subscription may come after the first request, so the request is repeated; its id makes it one.
		if out, err := bob(t, "mosquitto_pub", "-i", "bob", "-q", "1", "-t", base+"/request/try1", "-m",
			`{"verb":"ping","deadline":"30s"}`); err != nil {
			t.Fatalf("request: %v\n%s", err, out)
		}
		select {
		case got := <-answer:
			if err := json.Unmarshal([]byte(got), &status); err != nil {
				t.Fatalf("answer %q: %v", got, err)
			}
			return nil
		case <-time.After(2 * time.Second):
			return context.DeadlineExceeded
		}
	})
	if !status.Phase.Valid() {
		t.Errorf("answer %+v; wanted a status", status)
	}

	kill(t, node) // its certificate makes one connection at a time
	if out, err := thief(t, "mosquitto_sub", "-i", "n1", "-q", "1", "-t", f.status.Root+"/"+f.status.Cluster+"/+/tele", "-E"); err == nil &&
		!strings.Contains(out, "denied") {
		t.Errorf("a node's certificate may subscribe to all telemetry:\n%s", out)
	}
	if out, err := thief(t, "mosquitto_pub", "-i", "n1", "-V", "mqttv5", "-q", "1", "-t", base+"/request/try2", "-m",
		`{"verb":"ping","deadline":"30s"}`); err == nil && !strings.Contains(out, "ot authorized") {
		t.Errorf("a node's certificate may send requests:\n%s", out)
	}
	var all api.List[api.CommandRecord]
	if err := f.get("/v1/commands?node=n1", &all); err != nil || len(all.Items) != 1 {
		t.Errorf("commands %v, error %v; wanted the operator's one", all.Items, err)
	}
}

// operatorCertificate has the shipped client make certificates in f.dir.
func (f *field) operatorCertificate(names ...string) {
	f.t.Helper()
	program, err := Program("skerry")
	if err != nil {
		f.t.Fatal(err)
	}
	for _, name := range names {
		cmd := exec.CommandContext(f.t.Context(), program, "operator", "create", name, "--role", "operator", "--dir", f.dir)
		cmd.Env = append(cmd.Environ(), "SKERRY_CONFIG="+filepath.Join(f.dir, "cluster", "admin.yaml"))
		if out, err := cmd.CombinedOutput(); err != nil {
			f.t.Fatalf("operator create: %v\n%s", err, out)
		}
	}
}

// stolen writes the key and certificate of a node as an operator's are written, and returns their name.
func (f *field) stolen(name string) string {
	f.t.Helper()
	raw, err := os.ReadFile(filepath.Join(f.dir, name, "state", "identity.json"))
	if err != nil {
		f.t.Fatal(err)
	}
	var id struct{ Key, Certificate string }
	if err := json.Unmarshal(raw, &id); err != nil {
		f.t.Fatal(err)
	}
	for suffix, text := range map[string]string{".key": id.Key, ".crt": id.Certificate} {
		if err := os.WriteFile(filepath.Join(f.dir, "stolen"+suffix), []byte(text), 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
	return "stolen"
}

// foreign returns what runs one of mosquitto's clients with a certificate.
func (f *field) foreign(who string) func(t *testing.T, program string, args ...string) (string, error) {
	at := func(name string) string { return filepath.Join(f.dir, name) }
	return func(t *testing.T, program string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		line := append([]string{"-h", "127.0.0.1", "-p", portOf(t, f.status.MQTT[0]), "--cafile", at("ca.crt"), "--cert", at(who + ".crt"),
			"--key", at(who + ".key")}, args...)
		out, err := exec.CommandContext(ctx, program, line...).CombinedOutput()
		return string(out), err
	}
}
