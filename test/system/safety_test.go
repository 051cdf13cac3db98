package system

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cli"
)

// as returns a client of the field with an access token of role.
func (f *field) as(role api.Role) *cli.Client {
	f.t.Helper()
	var token api.AccessToken
	if err := f.post("/v1/access-tokens", api.AccessRequest{Name: string(role), Role: role}, &token); err != nil {
		f.t.Fatal(err)
	}
	x := f.admin
	x.Token = token.Secret
	c, err := cli.NewClient(x)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// skerry runs the command line as the administrator.
func (f *field) skerry(args ...string) (string, error) {
	f.t.Helper()
	program, err := Program("skerry")
	if err != nil {
		f.t.Fatal(err)
	}
	raw, err := yaml.Marshal(cli.Contexts{Current: f.admin.Name, Contexts: []cli.Context{f.admin}})
	if err != nil {
		f.t.Fatal(err)
	}
	path := filepath.Join(f.dir, "admin.yaml")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.CommandContext(f.t.Context(), program, args...)
	cmd.Env = append(cmd.Environ(), "SKERRY_CONFIG="+path)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestADeviceIsNotGivenTheOrdersOfOneBeforeIt removes a node with an open command and enrols another under its id.
func TestADeviceIsNotGivenTheOrdersOfOneBeforeIt(t *testing.T) {
	f := newField(t)
	node := f.node("heir", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "")
	start(t, node)
	f.online("heir")
	kill(t, node)
	var made api.List[api.CommandRecord]
	err := f.post("/v1/commands", api.CommandRequest{Nodes: []string{"heir"}, Verb: "reboot", Deadline: "1h"}, &made)
	if err != nil || len(made.Items) != 1 {
		t.Fatalf("order: %v, %v", made.Items, err)
	}
	if err := f.client.Delete(t.Context(), "/v1/nodes/heir"); err != nil {
		t.Fatal(err)
	}
	var rec api.CommandRecord
	if err := f.get("/v1/commands/"+made.Items[0].ID, &rec); err != nil || rec.Phase != api.PhaseCancelled || !rec.Final {
		t.Errorf("after the removal the command is %s, %v; wanted cancelled", rec.Phase, err)
	}
	if err := os.RemoveAll(filepath.Join(f.dir, "heir")); err != nil {
		t.Fatal(err)
	}
	start(t, f.node("heir", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, ""))
	f.online("heir")
	f.ping("heir") // behind anything that was delivered on connecting
	if err := f.get("/v1/commands/"+made.Items[0].ID, &rec); err != nil || rec.Phase != api.PhaseCancelled {
		t.Errorf("the next device of that id made the old command %s, %v", rec.Phase, err)
	}
}

// TestAnOperatorCannotAskForWhatTakesAnAdministrator also asks a node that has never said what it takes.
func TestAnOperatorCannotAskForWhatTakesAnAdministrator(t *testing.T) {
	f := newField(t)
	node := f.node("known", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "")
	start(t, node)
	f.online("known")
	// Enrolled, and killed before it could connect: its broker's address leads nowhere.
	silent := f.node("silent", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "")
	silent.Args = append(silent.Args, "--set", "mqtt.servers=mqtts://127.0.0.1:1")
	start(t, silent)
	poll(t, time.Minute, "silent is enrolled", func() error { return f.get("/v1/nodes/silent", &api.Node{}) })
	operator, viewer := f.as(api.RoleOperator), f.as(api.RoleViewer)
	for _, name := range []string{"known", "silent"} {
		for _, verb := range []string{"reboot", "agent.restart", "config.set", "never.heard.of"} {
			req := api.CommandRequest{Nodes: []string{name}, Verb: verb, Args: map[string]any{}, Deadline: "1m"}
			if err := operator.Post(t.Context(), "/v1/commands", req, nil); !isForbidden(err) {
				t.Errorf("operator, %s on %s: %v; wanted a refusal by role", verb, name, err)
			}
		}
		req := api.CommandRequest{Nodes: []string{name}, Verb: "ping", Deadline: "1m"}
		if err := operator.Post(t.Context(), "/v1/commands", req, nil); err != nil {
			t.Errorf("operator, ping on %s: %v; wanted it taken", name, err)
		}
		if err := viewer.Post(t.Context(), "/v1/commands", req, nil); !isForbidden(err) {
			t.Errorf("viewer, ping on %s: %v; wanted a refusal by role", name, err)
		}
	}
}

// TestFilesAndLogsArriveEveryTime copies files of awkward sizes both ways, and reads logs, often enough to meet a race.
func TestFilesAndLogsArriveEveryTime(t *testing.T) {
	t.Parallel()
	f := newField(t)
	shared := t.TempDir()
	extra := fmt.Sprintf("command: {read: [%s], write: [%s]}\n", shared, shared)
	start(t, f.node("files.site1", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, extra))
	f.online("files.site1")
	for round := range 8 {
		for _, size := range []int{0, 1, 15 << 10, 300 << 10, 2 << 20} {
			want := make([]byte, size)
			rand.Read(want)
			there := filepath.Join(shared, fmt.Sprintf("f%d", size))
			if err := os.WriteFile(there, want, 0o600); err != nil {
				t.Fatal(err)
			}
			here := filepath.Join(f.dir, "copy")
			if out, err := f.skerry("cp", "files.site1:"+there, here); err != nil {
				t.Fatalf("round %d, download of %d bytes: %v: %s", round, size, err, out)
			}
			if got, err := os.ReadFile(here); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("round %d, download of %d bytes: other content, %v", round, size, err)
			}
			back := there + ".back"
			if out, err := f.skerry("cp", here, "files.site1:"+back); err != nil {
				t.Fatalf("round %d, upload of %d bytes: %v: %s", round, size, err, out)
			}
			if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("round %d, upload of %d bytes: other content, %v", round, size, err)
			}
		}
		if out, err := f.skerry("logs", "files.site1"); err != nil {
			t.Fatalf("round %d, logs: %v: %s", round, err, out)
		}
	}
	var list api.List[api.CommandRecord]
	poll(t, time.Minute, "all have their end", func() error {
		list = api.List[api.CommandRecord]{}
		if err := f.get("/v1/commands?limit=1000", &list); err != nil {
			return err
		}
		if slices.ContainsFunc(list.Items, func(c api.CommandRecord) bool { return !c.Final }) {
			return errors.New("not all of them have ended")
		}
		return nil
	})
	for _, c := range list.Items {
		if c.Phase != api.PhaseSucceeded {
			t.Errorf("%s is journalled as %s although its bytes arrived", c.Verb, c.Phase)
		}
	}
}

func TestLabelsCanBeSetAndTakenBack(t *testing.T) {
	f := newField(t)
	start(t, f.node("labelled", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, ""))
	f.online("labelled")
	for _, step := range []struct{ set, want string }{{"harbour", "harbour"}, {"", ""}} {
		if out, err := f.skerry("node", "label", "labelled", "site="+step.set); err != nil {
			t.Fatalf("label: %v: %s", err, out)
		}
		var n api.Node // a fresh one: decoding into a map that is there would merge
		if err := f.get("/v1/nodes/labelled", &n); err != nil || n.Labels["site"] != step.want {
			t.Errorf("site is %q, %v; wanted %q", n.Labels["site"], err, step.want)
		}
	}
}

func isForbidden(err error) bool {
	p, ok := errors.AsType[*api.Problem](err)
	return ok && p.Status == http.StatusForbidden
}
