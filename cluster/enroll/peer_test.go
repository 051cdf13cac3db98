package enroll

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/test/freeport"
)

// peer returns an installed program. Under CI it must be there.
func peer(t *testing.T, path string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: apt-get install mosquitto mosquitto-clients", path)
		}
		t.Skipf("%s is missing", path)
	}
	return path
}

// writeKeyPair writes a certificate chain and its key as files.
func writeKeyPair(t *testing.T, base string, key any, chain ...[]byte) (cert, private string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, private = base+".crt", base+".key"
	for path, data := range map[string][]byte{cert: certPEM(chain...),
		private: pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der})} {
		if err := os.WriteFile(path, data, 0o644); err != nil { // the broker may drop its privileges before it reads
			t.Fatal(err)
		}
	}
	return cert, private
}

// TestPeerMosquittoFollowsTheBundleAndTheRevocationList runs Debian's broker with what this package writes for it,
// before and after a rotation of the root and the removal of one of two nodes.
func TestPeerMosquittoFollowsTheBundleAndTheRevocationList(t *testing.T) {
	broker, pub := peer(t, "/usr/sbin/mosquitto"), peer(t, "/usr/bin/mosquitto_pub")
	dir := t.TempDir()
	s, err := openIn(t.Context(), dir, &registry{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.cfg.DB.Close() })
	st := &site{Service: s, clock: &clock{t: time.Now()}}
	join := func(name string) *device {
		d := st.device(t)
		reply, err := s.Enroll(d.request(t, st.token(t, TokenSpec{}), name), "192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		d.keep(t, reply)
		return d
	}
	first, second := join("n1"), join("n2")
	if err := s.cfg.Authority.RotateRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	third := join("n3") // by the new root, while the broker's own certificate is by the old one
	for _, step := range []struct {
		removed string
		want    map[string]bool
	}{{"", map[string]bool{"n1": true, "n2": true, "n3": true}}, {"n1", map[string]bool{"n1": false, "n2": true,
		"n3": true}},
		{"n3", map[string]bool{"n1": false, "n2": true, "n3": false}}} {
		if step.removed != "" {
			if err := s.Remove(step.removed, "ann"); err != nil {
				t.Fatal(err)
			}
		}
		port := startMosquitto(t, broker, s, filepath.Join(dir, "step"+step.removed))
		for name, d := range map[string]*device{"n1": first, "n2": second, "n3": third} {
			cert, key := writeKeyPair(t, filepath.Join(dir, name), d.key, d.cert.Raw)
			out, err := exec.CommandContext(t.Context(), pub, "-h", "127.0.0.1", "-p", port, "--cafile", filepath.Join(dir,
				"ca", rootsFile),
				"--cert", cert, "--key", key, "-t", "t", "-m", "m", "-q", "1").CombinedOutput()
			if (err == nil) != step.want[name] {
				t.Errorf("with %q removed, %s: %v: %s; wanted success %v", step.removed, name, err, out, step.want[name])
			}
		}
	}
}

// startMosquitto runs a broker for the rest of the test and returns its port.
func startMosquitto(t *testing.T, program string, s *Service, dir string) (port string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := NewListener(s.cfg.Authority, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	own, err := l.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := writeKeyPair(t, filepath.Join(dir, "server"), own.PrivateKey, own.Certificate...)
	crl, err := s.CRL()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(freeport.Addr(t))
	config := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\nrequire_certificate true\n"+
		"use_identity_as_username true\n"+
		"cafile %s\ncertfile %s\nkeyfile %s\ncrlfile %s\nuser %s\n", port, filepath.Join(dir, "ca.crt"), cert, key,
		filepath.Join(dir, "ca.crl"), currentUser())
	for name, data := range map[string][]byte{"ca.crt": s.cfg.Authority.BundlePEM(), "ca.crl": crl,
		"conf": []byte(config)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	ctx, cancel := context.WithCancel(t.Context())
	c := exec.CommandContext(ctx, program, "-c", filepath.Join(dir, "conf"))
	c.Stdout, c.Stderr = &log, &log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() { cancel(); <-ended })
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
		if err == nil {
			conn.Close()
			return port
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("mosquitto ended: %v: %s", err, log.String())
		default:
			agent.Wait(t.Context(), 20*time.Millisecond)
		}
	}
	t.Fatal("mosquitto does not listen")
	return ""
}

// currentUser keeps the broker from dropping root's privileges, which a test's directory does not allow for.
func currentUser() string {
	if os.Geteuid() == 0 {
		return "root"
	}
	return "mosquitto"
}
