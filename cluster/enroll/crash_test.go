package enroll

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// childStore makes this test program enrol the request on its standard input and hang before it would reply.
const childStore = "SKERRY_TEST_STORE_DIR"

// hang is a registry that is told of the node, after the transaction, and never answers.
type hang struct{}

func (hang) Enrolled(n api.Node) error {
	fmt.Println(n.ID)
	select {}
}

func (h hang) Merged(n api.Node) error { return h.Enrolled(n) }

func (hang) Revoked(mqtt.Identity) {}

func enrollAsChild(dir string) int {
	s, err := openIn(context.Background(), dir, hang{})
	if err == nil {
		var r api.EnrollRequest
		if err = json.NewDecoder(os.Stdin).Decode(&r); err == nil {
			go func() { // the main goroutine alone would be a deadlock that the runtime ends
				_, err := s.Enroll(&r, "192.0.2.1")
				fmt.Fprintln(os.Stderr, err)
			}()
			_, err = io.ReadAll(os.Stdin)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func openIn(ctx context.Context, dir string, nodes Nodes) (*Service, error) {
	a, err := OpenAuthority(ctx, AuthorityConfig{Dir: filepath.Join(dir, "ca"), Cluster: "c1"})
	if err != nil {
		return nil, err
	}
	db, err := bbolt.Open(filepath.Join(dir, "store.db"), 0o600, &bbolt.Options{Timeout: time.Minute})
	if err != nil {
		return nil, err
	}
	return Open(Config{Cluster: "c1", Endpoints: []string{"https://127.0.0.1:8443"},
		MQTT: []string{"mqtts://127.0.0.1:8883"}, DB: db,
		Authority: a, Nodes: nodes, Log: slog.New(slog.DiscardHandler)})
}

// TestAKillBetweenTheTokensUseAndTheReplyLosesNothing kills a cluster agent that has stored an enrolment and not yet
// answered. The device asks the next one again.
func TestAKillBetweenTheTokensUseAndTheReplyLosesNothing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := openIn(t.Context(), dir, &registry{})
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.CreateToken(TokenSpec{MaxUses: 1})
	if err != nil {
		t.Fatal(err)
	}
	d := (&site{Service: s}).device(t)
	request := d.request(t, token, "n1")
	if err := s.cfg.DB.Close(); err != nil {
		t.Fatal(err)
	}

	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), childStore+"="+dir)
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(in).Encode(request); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "n1\n" {
		t.Fatalf("child said %q, %v; wanted the node that it stored", line, err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err == nil {
		t.Fatal("child ended by itself")
	}

	told := &registry{}
	s, err = openIn(t.Context(), dir, told)
	if err != nil {
		t.Fatal(err)
	}
	defer s.cfg.DB.Close()
	reply, err := s.Enroll(request, "192.0.2.1")
	if err != nil || reply.Node != "n1" || reply.Certificate == "" {
		t.Fatalf("asked again: %+v, %v", reply, err)
	}
	d.keep(t, reply)
	if _, err := s.Authorize(d.cert); err != nil {
		t.Error(err)
	}
	tokens, err := s.Tokens()
	if err != nil || len(tokens) != 1 || tokens[0].Uses != 1 || len(told.enrolled) != 1 {
		t.Errorf("tokens %+v, %v, registry told %d times; wanted one use", tokens, err, len(told.enrolled))
	}
	other := (&site{Service: s}).device(t)
	_, err = s.Enroll(other.request(t, token, "n2"), "192.0.2.1")
	wantCode(t, "a second device", err, CodeTokenUsedUp)
}
