package identity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/enrolment"
)

// TestAWriteThatIsCutShortLeavesTheOldIdentity plays a crash before the rename: what was staged is torn.
func TestAWriteThatIsCutShortLeavesTheOldIdentity(t *testing.T) {
	n := joining(t, (&enrolment.Service{Now: noon}).Start(t))
	first := n.enrolled()
	staged := path(n.dir) + ".new"
	if err := os.WriteFile(staged, []byte(`{"node":"pump-3","key":"-----BEG`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(staged, 0o666); err != nil { // whatever the umask says
		t.Fatal(err)
	}
	again, err := Load(n.dir)
	if err != nil || again.Describe() != first.Describe() {
		t.Fatalf("identity %v, error %v; wanted the one before the crash", again, err)
	}
	if err := again.Save(n.dir); err != nil {
		t.Fatal(err)
	}
	if got := mode(t, path(n.dir)); got != 0o600 {
		t.Errorf("mode %#o; what the crash left behind was taken over with its mode", got)
	}
	if _, err := os.Stat(staged); !os.IsNotExist(err) {
		t.Errorf("something is still staged: %v", err)
	}
}

func TestAFileThatCannotBeReplacedIsLeftWhole(t *testing.T) {
	dir := t.TempDir()
	id, err := New("pump-3")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path(dir), "in-the-way"), 0o700); err != nil { // rename(2) onto it fails
		t.Fatal(err)
	}
	if err := id.Save(dir); err == nil || !strings.Contains(err.Error(), "save identity") {
		t.Errorf("error %v; wanted one about the save", err)
	}
	if _, err := os.Stat(path(dir) + ".new"); !os.IsNotExist(err) {
		t.Errorf("the key lies about in a staged file: %v", err)
	}
}

func TestADamagedIdentityIsNamedWithItsCureAndNeverReplaced(t *testing.T) {
	n := joining(t, (&enrolment.Service{Now: noon}).Start(t))
	first := n.enrolled()
	whole, err := os.ReadFile(path(n.dir))
	if err != nil {
		t.Fatal(err)
	}
	other, err := New("pump-3")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":             "",
		"torn":              string(whole[:len(whole)/2]),
		"not JSON":          strings.Repeat("\x00", 4096), // what ext4 leaves of a file that was not synced
		"another's key":     strings.Replace(string(whole), escaped(first.Key), escaped(other.Key), 1),
		"no key":            strings.Replace(string(whole), escaped(first.Key), "", 1),
		"a damaged key":     strings.Replace(string(whole), escaped(first.Key)[40:60], strings.Repeat("A", 20), 1),
		"without its CA":    strings.Replace(string(whole), escaped(first.CA), "", 1),
		"an order key less": strings.Replace(string(whole), "AAAAAAAA", "", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if text == string(whole) {
				t.Fatal("nothing was damaged")
			}
			if err := os.WriteFile(path(n.dir), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			k, err := NewKeeper(n.cfg)
			if err != nil {
				t.Fatal(err)
			}
			err = k.Run(t.Context())
			if !tells(err, path(n.dir), "restore the file, or remove it and join again") {
				t.Errorf("error %v; wanted the file and the cure", err)
			}
			if strings.Contains(err.Error(), "BEGIN") {
				t.Errorf("the error tells the key: %v", err)
			}
			if left, err := os.ReadFile(path(n.dir)); err != nil || string(left) != text {
				t.Errorf("the file was changed, error %v", err)
			}
		})
	}
}

// escaped is a PEM text as it stands in JSON.
func escaped(pem string) string { return strings.ReplaceAll(pem, "\n", `\n`) }

func TestAKeyThatOthersMayReadIsTakenFromThemAndTold(t *testing.T) {
	n := joining(t, (&enrolment.Service{Now: noon}).Start(t))
	n.enrolled()
	for _, wrong := range []os.FileMode{0o644, 0o640, 0o660} {
		if err := os.Chmod(path(n.dir), wrong); err != nil {
			t.Fatal(err)
		}
		n.log.Reset()
		n.enrolled()
		if got := mode(t, path(n.dir)); got != 0o600 {
			t.Errorf("mode %#o stays %#o", wrong, got)
		}
		if !strings.Contains(n.log.String(), "other users could read") || !strings.Contains(n.log.String(), wrong.String()) {
			t.Errorf("mode %#o: the log says only: %s", wrong, &n.log)
		}
	}
	n.log.Reset()
	n.enrolled()
	if n.log.Len() != 0 {
		t.Errorf("all is well, but the log says: %s", &n.log)
	}
	if got := mode(t, n.dir); got != 0o700 {
		t.Errorf("directory has mode %#o", got)
	}
}

func TestANodeThatNeverBeganIsToldFromADamagedOne(t *testing.T) {
	if _, err := Load(t.TempDir()); !IsNone(err) {
		t.Errorf("error %v; wanted one that says there is none", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(path(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || IsNone(err) {
		t.Errorf("error %v; a damaged identity is not an absent one", err)
	}
}

func TestAKeeperWithoutWhatItNeedsIsNotMade(t *testing.T) {
	n := newNode(t, func() (*api.Join, error) { return new(api.Join), nil })
	for name, spoil := range map[string]func(*KeeperConfig){
		"directory": func(c *KeeperConfig) { c.Dir = "" }, "join": func(c *KeeperConfig) { c.Join = nil },
		"client": func(c *KeeperConfig) { c.Client = nil }, "clock": func(c *KeeperConfig) { c.Client = &Client{} },
		"log": func(c *KeeperConfig) { c.Log = nil },
	} {
		cfg := n.cfg
		spoil(&cfg)
		if _, err := NewKeeper(cfg); err == nil {
			t.Errorf("made without a %s", name)
		}
	}
}
