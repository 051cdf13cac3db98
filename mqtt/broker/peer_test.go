package broker_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// foreign is a program of Debian's mosquitto-clients with a certificate.
type foreign struct {
	t    *testing.T
	path string
	args []string
}

func (w *world) foreign(t *testing.T, program string, id mqtt.Identity, version string) *foreign {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed", program)
		}
		t.Skipf("%s is not installed", program)
	}
	cert := w.ca.client(t, id)
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"ca": {Type: "CERTIFICATE", Bytes: w.ca.cert.Raw},
		"cert": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, "key": {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, port, err := net.SplitHostPort(w.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return &foreign{t, path, []string{"-h", "localhost", "-p", port, "-V", version, "-q", "1", "--cafile", filepath.Join(dir, "ca"),
		"--cert", filepath.Join(dir, "cert"), "--key", filepath.Join(dir, "key")}}
}

// start runs the program and returns what it prints, and its exit code, when it ends.
func (f *foreign) start(args ...string) func() (string, int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, f.path, append(slices.Clone(f.args), args...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	return func() (string, int) {
		defer cancel()
		err := cmd.Wait()
		if ctx.Err() != nil {
			f.t.Errorf("%s %v: did not end: %v", filepath.Base(f.path), args, err)
		}
		return out.String(), cmd.ProcessState.ExitCode()
	}
}

func TestPeerMosquittoClientsReadAndRequestWithAnOperatorsCertificate(t *testing.T) {
	for _, version := range []string{"mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			w := newWorld(t)
			n1 := w.join(node("n1"))
			for _, name := range []string{"n1", "n2", "n3"} {
				if err := w.Publish(t.Context(), w.topics.Of(mqtt.KindState, name, ""), []byte("online"), true); err != nil {
					t.Fatal(err)
				}
			}
			viewer := w.foreign(t, "mosquitto_sub", person("eve", api.RoleViewer), version)
			read := viewer.start("-t", w.topics.All(), "-C", "4", "-v")
			eventually(t, "viewer has subscribed", func() bool { return w.Stats().Subscriptions == 1 })
			w.send(n1, w.topics.Of(mqtt.KindTele, "n1", ""), `{"load":1}`, false)
			out, code := read()
			if code != 0 || strings.Count(out, "/state online") != 3 || !strings.Contains(out, w.topics.Of(mqtt.KindTele, "n1", "")+` {"load":1}`) {
				t.Errorf("mosquitto_sub printed %q, exit %d; wanted three states and a batch", out, code)
			}

			request, status := w.topics.Of(mqtt.KindRequest, "n1", "r1"), w.topics.Of(mqtt.KindRequestStatus, "n1", "r1")
			operator := person("bob", api.RoleOperator)
			eventually(t, "viewer is gone", func() bool { return w.Stats().Subscriptions == 0 })
			answer := w.foreign(t, "mosquitto_sub", operator, version).start("-t", status, "-C", "1")
			eventually(t, "operator has subscribed", func() bool { return w.Stats().Subscriptions == 1 })
			out, code = w.foreign(t, "mosquitto_pub", operator, version).start("-t", request, "-m", `{"verb":"ping"}`)()
			if code != 0 {
				t.Errorf("mosquitto_pub printed %q, exit %d", out, code)
			}
			if !slices.Contains(w.happened(), "handle "+request+` {"verb":"ping"}`) {
				t.Errorf("happened: %q; wanted the request", w.happened())
			}
			if err := w.Publish(t.Context(), status, []byte("pong"), false); err != nil {
				t.Fatal(err)
			}
			if out, code = answer(); code != 0 || out != "pong\n" {
				t.Errorf("mosquitto_sub printed %q, exit %d; wanted the answer", out, code)
			}
		})
	}
}

func TestPeerMosquittoClientsAreRefusedWithANodesCertificate(t *testing.T) {
	for _, version := range []string{"mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			w := newWorld(t)
			out, code := w.foreign(t, "mosquitto_sub", node("n1"), version).start("-i", "n1", "-t", w.topics.All(), "-C", "1", "-W", "50")()
			if !strings.Contains(out, "denied") { // with exit code 0, for all that
				t.Errorf("mosquitto_sub printed %q, exit %d; wanted a refusal", out, code)
			}
			out, code = w.foreign(t, "mosquitto_pub", node("n1"), version).start("-i", "n1", "-t", w.topics.Of(mqtt.KindRequest, "n1", "r1"), "-m", "x")()
			if len(w.happened()) == 0 || slices.ContainsFunc(w.happened(), func(e string) bool { return strings.HasPrefix(e, "handle") }) {
				t.Errorf("happened: %q; wanted a session and no request", w.happened())
			}
			if w.Stats().Refused["publish"] != 1 || w.Stats().Refused["subscribe"] != 1 {
				t.Errorf("mosquitto_pub printed %q, exit %d; refused %v; wanted the publish and the subscription", out, code, w.Stats().Refused)
			}
			out, code = w.foreign(t, "mosquitto_pub", node("n1"), version).start("-i", "n2", "-t", w.topics.Of(mqtt.KindState, "n2", ""), "-m", "x")()
			if code == 0 {
				t.Errorf("mosquitto_pub with another's client id printed %q, exit %d; wanted a refusal", out, code)
			}
		})
	}
}

func TestPeerMosquittoPubDoesNotHangOnARefusal(t *testing.T) {
	w := newWorld(t)
	begin := time.Now()
	out, _ := w.foreign(t, "mosquitto_pub", person("eve", api.RoleViewer), "mqttv5").start("-t", w.topics.Of(mqtt.KindRequest, "n1", "r1"), "-m", "x")()
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("mosquitto_pub took %s and printed %q", took, out)
	}
}
