package update

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent/release"
)

// mirror is a release server that can be told to misbehave.
type mirror struct {
	*httptest.Server
	files   map[string][]byte
	cut     int // bytes after which each answer is cut off; 0: never
	got     []string
	program []byte
}

func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func sum(raw []byte) string {
	s := sha256.Sum256(raw)
	return hex.EncodeToString(s[:])
}

// program is one that passes for version.
func program(version string) []byte {
	return []byte("#!/bin/sh\n[ \"$1\" = version ] && echo \"skerry-edge " + version + " (test)\"\nexit 0\n#" + strings.Repeat("padding ", 4000))
}

func newMirror(t *testing.T, version string, content []byte) *mirror {
	t.Helper()
	var packed bytes.Buffer
	zw, err := gzip.NewWriterLevel(&packed, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	tw := tar.NewWriter(zw)
	if err := tw.WriteHeader(&tar.Header{Name: "x/skerry-edge", Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := tw.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	man := release.Manifest{Format: release.Format, Version: version, Built: time.Unix(1790000000, 0), Files: []release.File{{Name: "edge.tar.gz",
		SHA256: sum(packed.Bytes()), Size: int64(packed.Len()), Kind: release.KindArchive, Program: programName, Variant: variant, Target: Target(),
		ProgramSHA256: sum(content), ProgramSize: int64(len(content))}}}
	text, err := man.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := release.Sign(text, key(1), "test")
	if err != nil {
		t.Fatal(err)
	}
	m := &mirror{program: content, files: map[string][]byte{release.ManifestName: text, release.SignatureName: sig, "edge.tar.gz": packed.Bytes()}}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Base(r.URL.Path)
		m.got = append(m.got, name+" "+r.Header.Get("Range"))
		if r.URL.Path != "/v1/releases/"+version+"/"+name || m.files[name] == nil {
			http.NotFound(w, r)
			return
		}
		if m.cut > 0 && name == "edge.tar.gz" {
			w = &cutter{w, m.cut}
		}
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(m.files[name]))
	}))
	t.Cleanup(m.Close)
	return m
}

// cutter breaks the connection off.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(b []byte) (int, error) {
	if len(b) >= c.left {
		_, _ = c.ResponseWriter.Write(b[:c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

func (m *mirror) installer(t *testing.T, d *Dir) *Installer {
	t.Helper()
	return &Installer{Self: &Self{dir: d, build: "base"}, Keys: []release.Key{release.KeyOf(key(1).Public().(ed25519.PublicKey))}, Window: time.Minute,
		Running: "1.0.0", Try: [][]string{{"config"}},
		Site: &Site{Endpoints: func() []string { return []string{m.URL} }, TLS: func(string) *tls.Config { return nil }, Pause: time.Millisecond}}
}

func TestAnUpdateIsPutOnTrial(t *testing.T) {
	m := newMirror(t, "2.0.0", program("2.0.0"))
	d := opened(t)
	i := m.installer(t, d)
	var told []string
	if err := i.Install(t.Context(), Want{Version: "2.0.0", Command: "c1"}, func(s string) { told = append(told, s) }); err != nil {
		t.Fatal(err)
	}
	s, err := d.State()
	if err != nil || s.Trial == nil || s.Trial.Slot != SlotA || s.Trial.Command != "c1" || s.Base != "base" || d.Sound(SlotA, s.Slots[SlotA]) != nil {
		t.Fatalf("%+v, %v", s, err)
	}
	if left, _ := filepath.Glob(filepath.Join(d.path, partName+"*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if len(told) < 5 {
		t.Errorf("told %q; wanted every step", told)
	}
	if err := i.Install(t.Context(), Want{Version: "2.0.0", Force: true}, func(string) {}); !errors.Is(err, ErrRefused) {
		t.Errorf("%v; wanted a second one to be refused while one is on trial", err)
	}
}

// TestAProgramThatTakesTheConfigurationWithAReserveIsPutOnTrial has the code count that Passes names, and no other.
func TestAProgramThatTakesTheConfigurationWithAReserveIsPutOnTrial(t *testing.T) {
	content := bytes.Replace(program("2.0.0"), []byte("\nexit 0\n"), []byte("\n[ \"$1\" = config ] && exit 3\nexit 0\n"), 1)
	m := newMirror(t, "2.0.0", content)
	for passes, unfit := range map[int]bool{0: true, 2: true, 3: false} {
		i := m.installer(t, opened(t))
		i.Passes = passes
		if err := i.Install(t.Context(), Want{Version: "2.0.0"}, func(string) {}); errors.Is(err, ErrUnfit) != unfit || err != nil && !unfit {
			t.Errorf("with %d: %v; wanted it unfit: %t", passes, err, unfit)
		}
	}
}

func TestADownloadGoesOnWhereItWasCut(t *testing.T) {
	m := newMirror(t, "2.0.0", program("2.0.0"))
	m.cut = 20_000
	if err := m.installer(t, opened(t)).Install(t.Context(), Want{Version: "2.0.0"}, func(string) {}); err != nil {
		t.Fatal(err)
	}
	ranges := 0
	for _, g := range m.got {
		if strings.HasPrefix(g, "edge.tar.gz bytes=") {
			ranges++
		}
	}
	if ranges == 0 {
		t.Errorf("asked for %q; wanted to go on from where it was cut", m.got)
	}
}

func TestAClusterAgentThatIsBeingRestartedCostsNoUpdate(t *testing.T) {
	m := newMirror(t, "2.0.0", program("2.0.0"))
	i := m.installer(t, opened(t))
	asked := 0
	i.Site.Endpoints = func() []string {
		if asked++; asked < 4 {
			return []string{"http://127.0.0.1:1"}
		}
		return []string{m.URL}
	}
	if err := i.Install(t.Context(), Want{Version: "2.0.0"}, func(string) {}); err != nil || asked != 4 {
		t.Errorf("%v after %d tries", err, asked)
	}
}

func TestAPowerCutAtAnyStepOfAnInstallationIsGoneOnFrom(t *testing.T) {
	errCut := errors.New("power cut")
	m := newMirror(t, "2.0.0", program("2.0.0"))
	for at := 1; ; at++ {
		d := opened(t)
		n, cut := 0, false
		d.cut = func(string) error {
			if n++; n == at {
				cut = true
				return errCut
			}
			return nil
		}
		err := m.installer(t, d).Install(t.Context(), Want{Version: "2.0.0"}, func(string) {})
		if s, serr := d.State(); serr != nil || err != nil && s.Active != Installed {
			t.Fatalf("step %d: %+v, %v", at, s, serr)
		}
		if cut {
			if s, _ := d.State(); s.Trial != nil { // the cut came after the state was in its place
				continue
			}
			err = m.installer(t, d).Install(t.Context(), Want{Version: "2.0.0"}, func(string) {})
		}
		if s, serr := d.State(); err != nil || serr != nil || s.Trial == nil || d.Sound(SlotA, s.Slots[SlotA]) != nil {
			t.Fatalf("step %d: %+v, %v, %v", at, s, serr, err)
		}
		if !cut {
			if at < 6 {
				t.Fatalf("an installation has %d steps; the test is broken", at)
			}
			return
		}
	}
}

func TestWhatIsNotTrustedNewerWholeOrFitIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		content []byte
		change  func(m *mirror, i *Installer, d *Dir)
		want    string
		refused bool // nothing was even asked for
	}{
		"signed by another": {program("2.0.0"), func(_ *mirror, i *Installer, _ *Dir) {
			i.Keys = []release.Key{release.KeyOf(key(2).Public().(ed25519.PublicKey))}
		}, "no signature by a trusted release key", false},
		"no key": {program("2.0.0"), func(_ *mirror, i *Installer, _ *Dir) { i.Keys = nil }, "update.keys", true},
		"changed manifest": {program("2.0.0"), func(m *mirror, _ *Installer, _ *Dir) {
			m.files[release.ManifestName] = bytes.Replace(m.files[release.ManifestName], []byte(`"size"`), []byte(`"Size"`), 1)
		}, "no signature", false},
		"changed archive": {program("2.0.0"), func(m *mirror, _ *Installer, _ *Dir) { m.files["edge.tar.gz"][3000] ^= 1 }, "sha256", false},
		"not newer":       {program("2.0.0"), func(_ *mirror, i *Installer, _ *Dir) { i.Running = "2.0.0" }, "the same as", true},
		"older":           {program("2.0.0"), func(_ *mirror, i *Installer, _ *Dir) { i.Running = "3.0.0" }, "older than", true},
		"below the floor": {program("2.0.0"), func(_ *mirror, _ *Installer, d *Dir) {
			_, _ = d.Change(func(s *State) error { s.Floor = "2.1.0"; return nil })
		}, "below 2.1.0", true},
		"no room":          {program("2.0.0"), func(_ *mirror, i *Installer, _ *Dir) { i.Reserve = 1 << 60 }, "the disk of", false},
		"garbage":          {[]byte("\xde\xad\xbe\xef"), nil, "does not start", false},
		"another version":  {program("2.0.1"), nil, "says that it is", false},
		"bad for config":   {[]byte("#!/bin/sh\n[ \"$1\" = version ] && echo skerry-edge 2.0.0 && exit 0\necho no such key >&2\nexit 2\n"), nil, "no such key", false},
		"no such release":  {program("2.0.0"), func(m *mirror, _ *Installer, _ *Dir) { m.files = nil }, "404", false},
		"nobody to be had": {program("2.0.0"), func(m *mirror, _ *Installer, _ *Dir) { m.Close() }, "fetch manifest", false},
	} {
		m := newMirror(t, "2.0.0", c.content)
		d := opened(t)
		i := m.installer(t, d)
		if c.change != nil {
			c.change(m, i, d)
		}
		err := i.Install(t.Context(), Want{Version: "2.0.0"}, func(string) {})
		if err == nil || !strings.Contains(err.Error(), c.want) || c.refused && (!errors.Is(err, ErrRefused) || len(m.got) > 0) {
			t.Errorf("%s: %v, asked for %v; wanted %q", name, err, m.got, c.want)
		}
		if s, err := d.State(); err != nil || s.Trial != nil {
			t.Errorf("%s: %+v, %v; wanted no trial", name, s, err)
		}
		if i.Running = "3.0.0"; name == "older" {
			if err := i.Install(t.Context(), Want{Version: "2.0.0", Force: true}, func(string) {}); err != nil {
				t.Errorf("forced: %v", err)
			}
		}
	}
}

// TestACheckThatAnOutsiderKillsIsRunAgain kills the new program during its checks, as somebody by hand or the kernel for want of memory.
func TestACheckThatAnOutsiderKillsIsRunAgain(t *testing.T) {
	for _, c := range []struct {
		check string // the one that is killed
		kills int
		ok    bool
	}{{"version", 1, true}, {"config", 2, true}, {"config", 3, false}, {"version", 3, false}} {
		runs := filepath.Join(t.TempDir(), "runs")
		script := fmt.Sprintf("#!/bin/sh\nif [ $1 = %s ]; then echo >>%s; [ $(wc -l <%s) -le %d ] && kill -9 $$; fi\n", c.check, runs, runs, c.kills)
		m := newMirror(t, "2.0.0", append([]byte(script), program("2.0.0")...))
		d := opened(t)
		err := m.installer(t, d).Install(t.Context(), Want{Version: "2.0.0"}, func(string) {})
		if s, serr := d.State(); serr != nil || (err == nil) != c.ok || (s.Trial != nil) != c.ok || !c.ok && !strings.Contains(err.Error(), "killed") {
			t.Errorf("%s killed %d times: %v, %+v", c.check, c.kills, err, s)
		}
	}
	runs := filepath.Join(t.TempDir(), "runs")
	m := newMirror(t, "2.0.0", []byte("#!/bin/sh\necho >>"+runs+"\nkill -SEGV $$\n"))
	err := m.installer(t, opened(t)).Install(t.Context(), Want{Version: "2.0.0"}, func(string) {})
	if raw, rerr := os.ReadFile(runs); err == nil || !strings.Contains(err.Error(), "segmentation fault") || rerr != nil || len(raw) != 1 {
		t.Errorf("%v after %d runs; wanted a program that breaks by itself refused at once", err, len(raw))
	}
}

// TestAReplacedSlotLeavesRunningProgramsTheirFile starts a program from the slot that is then replaced.
func TestAReplacedSlotLeavesRunningProgramsTheirFile(t *testing.T) {
	m := newMirror(t, "2.0.0", program("2.0.0"))
	d := opened(t)
	path := d.Program(SlotA)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("old"), 0o700)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := m.installer(t, d).Install(t.Context(), Want{Version: "2.0.0"}, func(string) {}); err != nil {
		t.Fatal(err)
	}
	old := make([]byte, 3)
	if _, err := f.ReadAt(old, 0); err != nil || string(old) != "old" {
		t.Errorf("%q, %v; the file of a running program was written to", old, err)
	}
}
