package command

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

const crashEnv = "SKERRY_TEST_COMMAND_DB"

// TestKilledProcessLosesNothingItAnswered runs this very test binary as a process that submits and ends commands as
// fast as it can, kills it, and looks whether everything that was answered is on disk. Many rounds on one database.
func TestKilledProcessLosesNothingItAnswered(t *testing.T) {
	if path := os.Getenv(crashEnv); path != "" {
		hammer(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "db")
	answered := map[string]api.Phase{}
	for round := range 6 {
		said := killAfter(t, path, 50+20*round)
		if len(said) == 0 {
			t.Fatalf("round %d: the process answered nothing", round)
		}
		for _, line := range said {
			phase, id, ok := strings.Cut(line, " ")
			if !ok {
				continue // the line that the kill tore
			}
			answered[id] = api.Phase(phase)
		}
		db := openDB(t, path, true)
		j := newJournal(t, Config{DB: db, MaxOpenPerNode: 1 << 20, MaxOpen: 1 << 20})
		for id, phase := range answered {
			rec := mustGet(t, j, id)
			if rec.Phase != phase && !phase.CanBecome(rec.Phase) { // it may be ahead: stored, then killed before the answer
				t.Errorf("round %d: command %s was answered %s and is %s", round, id, phase, rec.Phase)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d commands survived", len(answered))
}

// killAfter starts the process, kills it once it has answered n times, and returns all that it answered.
func killAfter(t *testing.T, path string, n int) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledProcessLosesNothingItAnswered$")
	cmd.Env = append(os.Environ(), crashEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if said = append(said, lines.Text()); len(said) == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // killed, as intended
	return said
}

// hammer never returns: it is killed.
func hammer(t *testing.T, path string) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	j, err := New(Config{DB: db, Nodes: everybody{}, Deliverer: &tape{}, MaxOpenPerNode: 1 << 20, MaxOpen: 1 << 20,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Load(); err != nil {
		t.Fatal(err)
	}
	j.OnNodeUp("n1", 1, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	say := func(p api.Phase, id string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(os.Stdout, "%s %s\n", p, id)
	}
	for range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				rec := mustSubmit(t, j, Order{Deadline: time.Now().Add(time.Hour)})
				say(rec.Phase, rec.ID)
				for _, p := range []api.Phase{api.PhaseAccepted, api.PhaseSucceeded}[:i%3] {
					mustStatus(t, j, rec.ID, p)
					say(p, rec.ID)
				}
			}
		})
	}
	wg.Wait()
}
