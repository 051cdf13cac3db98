package enroll

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// childDir makes this test program open the authority of a directory, print its digest and end.
const childDir = "SKERRY_TEST_CA_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(openAsChild(dir))
	}
	if dir := os.Getenv(childStore); dir != "" {
		os.Exit(enrollAsChild(dir))
	}
	os.Exit(m.Run())
}

func openAsChild(dir string) int {
	if _, err := io.ReadAll(os.Stdin); err != nil { // until the parent lets all go at once
		return 1
	}
	a, err := OpenAuthority(context.Background(), AuthorityConfig{Dir: dir, Cluster: "c1"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(a.SHA256(), hex.EncodeToString(a.OrderKeys()[0]))
	return 0
}

func TestProcessesThatStartAtOnceShareOneAuthority(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "ca")
	gate, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	const n = 5
	var out, faults [n]bytes.Buffer
	children := make([]*exec.Cmd, n)
	for i := range children {
		c := exec.CommandContext(t.Context(), self)
		c.Env = append(os.Environ(), childDir+"="+dir)
		c.Stdin, c.Stdout, c.Stderr = gate, &out[i], &faults[i]
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		children[i] = c
	}
	gate.Close()
	release.Close()
	for i, c := range children {
		if err := c.Wait(); err != nil {
			t.Fatalf("process %d: %v: %s", i, err, faults[i].String())
		}
	}
	for i := range n {
		if got := out[i].String(); got == "" || got != out[0].String() {
			t.Errorf("process %d has authority %q, process 0 has %q", i, got, out[0].String())
		}
	}
}

func openAt(t *testing.T, dir string, c *clock) (*Authority, error) {
	t.Helper()
	return OpenAuthority(t.Context(), AuthorityConfig{Dir: dir, Cluster: "c1", Now: c.now})
}

func mustOpen(t *testing.T, dir string, c *clock) *Authority {
	t.Helper()
	a, err := openAt(t, dir, c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestASpoiltAuthorityIsNamedWithItsCureAndNeverReplaced(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other")
	mustOpen(t, other, newClock())
	foreignKey := func(p string) error { return copyFile(filepath.Join(other, rootKeysFile), p) }
	for name, spoil := range map[string]struct {
		file string
		do   func(path string) error
	}{
		"certificate missing":     {rootsFile, os.Remove},
		"key missing":             {rootKeysFile, os.Remove},
		"order key missing":       {ordersFile, os.Remove},
		"certificate garbage":     {rootsFile, func(p string) error { return os.WriteFile(p, []byte("garbage"), 0o600) }},
		"key empty":               {rootKeysFile, func(p string) error { return os.Truncate(p, 0) }},
		"key torn":                {rootKeysFile, func(p string) error { return os.Truncate(p, 100) }},
		"order key of other kind": {ordersFile, foreignKey},
		"key of another CA":       {rootKeysFile, foreignKey},
		"key open to all":         {rootKeysFile, func(p string) error { return os.Chmod(p, 0o644) }},
		"certificate huge":        {rootsFile, func(p string) error { return os.Truncate(p, 1<<30) }},
		"certificate a directory": {rootsFile, func(p string) error { os.Remove(p); return os.Mkdir(p, 0o700) }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mustOpen(t, dir, newClock())
			if err := spoil.do(filepath.Join(dir, spoil.file)); err != nil {
				t.Fatal(err)
			}
			before := listing(t, dir)
			_, err := openAt(t, dir, newClock())
			if err == nil {
				t.Fatal("opened; wanted an error")
			}
			for _, want := range []string{filepath.Join(dir, spoil.file), "restore it from a backup"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if after := listing(t, dir); after != before {
				t.Errorf("the directory changed from %s to %s", before, after)
			}
		})
	}
}

func TestAnAuthorityOfAnotherClusterIsRefused(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, dir, newClock())
	_, err := OpenAuthority(t.Context(), AuthorityConfig{Dir: dir, Cluster: "c2", Now: newClock().now})
	if err == nil || !strings.Contains(err.Error(), `"c1"`) || !strings.Contains(err.Error(), `"c2"`) {
		t.Errorf("open as c2: %v; wanted an error that names both clusters", err)
	}
}

// TestACreationCutShortIsCompleted stops the creation after each of its steps.
func TestACreationCutShortIsCompleted(t *testing.T) {
	whole := t.TempDir()
	want := mustOpen(t, whole, newClock()).SHA256()
	files := []string{ordersFile, rootKeysFile, rootsFile}
	for placed := range len(files) {
		dir := t.TempDir()
		for i, name := range files {
			to := name
			if i >= placed {
				to += newSuffix
			}
			if err := copyFile(filepath.Join(whole, name), filepath.Join(dir, to)); err != nil {
				t.Fatal(err)
			}
		}
		got := mustOpen(t, dir, newClock()).SHA256()
		if placed > 0 && got != want {
			t.Errorf("with %d files in place the authority became another", placed)
		}
		if again := mustOpen(t, dir, newClock()).SHA256(); again != got {
			t.Errorf("with %d files in place the next start has another authority", placed)
		}
	}
	torn := t.TempDir() // staging itself was cut short: nothing was ever used
	if err := os.WriteFile(filepath.Join(torn, ordersFile+newSuffix), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, torn, newClock())
}

func TestFilesOfTheAuthorityArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "ca")
	a := mustOpen(t, dir, newClock())
	for _, name := range []string{rootKeysFile, ordersFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v; wanted 0600", name, info.Mode(), err)
		}
	}
	root := a.Roots()[0]
	if life := root.NotAfter.Sub(newClock().now()); life < 10*365*day || life > 20*365*day+day {
		t.Errorf("root lives %s; wanted 10 to 20 years", life)
	}
	if !root.NotBefore.Before(newClock().now()) || !root.MaxPathLenZero || root.KeyUsage&x509.KeyUsageCertSign == 0 {
		t.Errorf("root from %s, path length zero %v, usage %v", root.NotBefore, root.MaxPathLenZero, root.KeyUsage)
	}
}

func TestARotatedRootIsPublishedBeforeListenersUseIt(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	a := mustOpen(t, dir, c)
	pinned := a.SHA256()
	c.add(30 * day)
	l, err := NewListener(a, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.RotateRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	roots := a.Roots()
	if len(roots) != 2 || a.clientRoot().cert != roots[0] || a.SHA256() != pinned {
		t.Fatalf("%d roots, clients' is the newest: %v, pin kept: %v", len(roots), a.clientRoot().cert == roots[0],
			a.SHA256() == pinned)
	}
	signedBy := func(root *x509.Certificate) bool {
		cert, err := l.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return cert.Leaf.CheckSignatureFrom(root) == nil
	}
	if !signedBy(roots[1]) {
		t.Error("a listener uses the new root at once")
	}
	c.add(91 * day)
	if !signedBy(roots[0]) || a.SHA256() == pinned {
		t.Error("after the overlap the new root is not in use")
	}
	if got := mustOpen(t, dir, c); len(got.Roots()) != 2 || got.SHA256() != a.SHA256() {
		t.Error("the next start does not see the rotation")
	}
	c.add(100 * day) // nobody can have a certificate by the first root any more
	if err := a.RotateRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := a.Roots(); len(got) != 2 || !got[1].Equal(roots[0]) {
		t.Errorf("%d roots after the second rotation; wanted the new one and the one before", len(got))
	}
}

func TestARotatedOrderKeySignsAfterTheOverlap(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	a := mustOpen(t, dir, c)
	old := a.OrderSigner()
	c.add(day)
	if err := a.RotateOrders(t.Context()); err != nil {
		t.Fatal(err)
	}
	if keys := a.OrderKeys(); len(keys) != 2 || !a.OrderSigner().Equal(old) || slices.Equal(keys[0], keys[1]) {
		t.Fatalf("%d order keys; signing changed at once: %v", len(keys), !a.OrderSigner().Equal(old))
	}
	c.add(90 * day)
	signer := a.OrderSigner()
	if signer.Equal(old) || !bytes.Equal(signer[ed25519.SeedSize:], a.OrderKeys()[0]) {
		t.Error("after the overlap the newest key does not sign")
	}
	if got := mustOpen(t, dir, c); !got.OrderSigner().Equal(signer) {
		t.Error("the next start signs with another key")
	}
}

func TestListenersFollowTheirNamesAndTheTime(t *testing.T) {
	c := newClock()
	a := mustOpen(t, t.TempDir(), c)
	l, err := NewListener(a, "Edge.Example.org.", "192.0.2.1", "[2001:db8::1]")
	if err != nil {
		t.Fatal(err)
	}
	leaf := func() *x509.Certificate {
		t.Helper()
		cert, err := l.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(cert.Certificate[len(cert.Certificate)-1])
		if hex.EncodeToString(sum[:]) != a.SHA256() {
			t.Fatal("the chain does not end with the root that join strings pin")
		}
		return cert.Leaf
	}
	first := leaf()
	for _, name := range []string{"edge.example.org", "192.0.2.1", "2001:db8::1"} {
		if err := first.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if leaf() != first {
		t.Error("issued anew without a cause")
	}
	if !first.NotBefore.Equal(a.Roots()[0].NotBefore) {
		t.Errorf("valid from %s; a device whose clock stands at its join string would refuse it", first.NotBefore)
	}
	if err := l.Advertise("198.51.100.7", "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	second := leaf()
	if second == first || second.VerifyHostname("198.51.100.7") != nil || second.VerifyHostname("192.0.2.1") != nil {
		t.Error("an added address is not in the next certificate")
	}
	c.add(serverLife*2/3 - time.Minute)
	if leaf() != second {
		t.Error("issued anew before two thirds of its life")
	}
	c.add(2 * time.Minute)
	if third := leaf(); third == second || !third.NotAfter.After(second.NotAfter) {
		t.Error("not issued anew at two thirds of its life")
	}
	for _, bad := range []string{"", "host:8443", "0.0.0.0", "::", "a b", "-x", "https://h", strings.Repeat("a", 64)} {
		if err := l.Advertise(bad); err == nil {
			t.Errorf("Advertise(%q) was accepted", bad)
		}
	}
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}

// listing is the names, sizes and modes in a directory.
func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&b, e.Name(), info.Size(), info.Mode(), info.ModTime())
	}
	return b.String()
}
