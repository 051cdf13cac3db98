package system

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skerry-edge/skerry/test/swarm"
)

// swarmDoor runs skerry-swarm with a cluster agent of its own in dir.
func swarmDoor(t *testing.T, dir string, args ...string) (code int, out, errs string) {
	t.Helper()
	program, err := Program("skerry-cluster")
	if err != nil {
		t.Fatal(err)
	}
	var o, e bytes.Buffer
	code = (&swarm.Door{Out: &o, Err: &e}).Main(t.Context(), append([]string{"--cluster", program, "--cluster-dir", dir}, args...))
	return code, o.String(), e.String()
}

// The second run has other keys for the same names. It used to say that the token wants a person's approval, of a token
// that skerry-swarm had made itself.
func TestASecondSwarmSaysWhoseNamesItHasAndHowToGoOn(t *testing.T) {
	dir := t.TempDir()
	few := []string{"--nodes", "3", "--for", "1s", "--cadence", "200ms", "--series", "2"}
	code, out, errs := swarmDoor(t, dir, few...)
	if code != swarm.ExitOK || !strings.Contains(out, "ramp all at") || !strings.Contains(out, "await 100 %") {
		t.Fatalf("exit code %d\n%s\n%s", code, out, errs)
	}
	if want := "3 nodes stay enrolled; take them away with: skerry node remove -l swarm=swarm --yes"; !strings.Contains(errs, want) {
		t.Errorf("no %q in\n%s", want, errs)
	}
	code, _, errs = swarmDoor(t, dir, few...)
	if code != swarm.ExitFailed {
		t.Errorf("exit code %d; wanted %d", code, swarm.ExitFailed)
	}
	for _, want := range []string{"there already with another key", "skerry node remove -l swarm=swarm --yes", "--prefix", "--identities"} {
		if !strings.Contains(errs, want) {
			t.Errorf("no word of %q in\n%s", want, errs)
		}
	}
	if strings.Contains(errs, "approval") {
		t.Errorf("it speaks of approval:\n%s", errs)
	}
	if code, _, errs = swarmDoor(t, dir, append(few, "--prefix", "other")...); code != swarm.ExitOK {
		t.Errorf("with another prefix, as it was told: exit code %d\n%s", code, errs)
	}
}

// ender ends a context as soon as a word is written.
type ender struct {
	bytes.Buffer
	word string
	end  context.CancelFunc
	mu   sync.Mutex // the log writes too
}

func (e *ender) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if bytes.Contains(p, []byte(e.word)) {
		e.end()
	}
	return e.Buffer.Write(p)
}

func TestASwarmThatIsEndedTellsWhatItLeavesBehind(t *testing.T) {
	program, err := Program("skerry-cluster")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	errs := &ender{word: "hold 5m", end: end} // as Ctrl-C does
	identities := t.TempDir()
	code := (&swarm.Door{Out: &bytes.Buffer{}, Err: errs}).Main(ctx, []string{"--cluster", program, "--cluster-dir", t.TempDir(), "--nodes", "4", "--for", "5m",
		"--identities", identities})
	want := "4 nodes stay enrolled; take them away with: skerry node remove -l swarm=swarm --yes, or use them again with --identities " + identities
	if code != swarm.ExitFailed || !strings.Contains(errs.String(), want) {
		t.Errorf("exit code %d, no %q in\n%s", code, want, &errs.Buffer)
	}
}

// TestTheExamplesOfTheSwarmPlay plays the files of docs/swarm.md as it says.
func TestTheExamplesOfTheSwarmPlay(t *testing.T) {
	docs := filepath.Join("..", "..", "docs", "swarm")
	code, out, errs := swarmDoor(t, t.TempDir(), "--profile", filepath.Join(docs, "field.yaml"), "--scenario", filepath.Join(docs, "outage.yaml"))
	if code != swarm.ExitOK {
		t.Fatalf("exit code %d\n%s\n%s", code, out, errs)
	}
	for _, want := range []string{"of 40 started", "cut 50 %", "violations", "account of"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	t.Log(out)
}
