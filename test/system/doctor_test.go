package system

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/doctor"
	"github.com/skerry-edge/skerry/test/freeport"
)

// fault is one thing wrong with an enrolment, and what `skerry-edge doctor` has to say about it.
type fault struct {
	name string
	join string
	exit int
	says string   // part of its message
	by   []string // what runs the doctor; empty: nothing
}

// TestEnrolmentFaultsNameThemselves injects one fault at a time. Each has its own message, and the exit code of its class.
func TestEnrolmentFaultsNameThemselves(t *testing.T) {
	f := newField(t)
	good := f.join(api.TokenRequest{TTL: "1h", MaxUses: 1})
	said := map[string]string{}
	faults := f.faults()
	if len(faults) != 12 {
		t.Errorf("%d faults; wanted twelve", len(faults))
	}
	for _, x := range faults {
		t.Run(x.name, func(t *testing.T) {
			exit, text := f.doctor(t, strings.ReplaceAll(x.name, " ", "-"), x.join, x.by...)
			first := failure(text)
			if exit != x.exit || !strings.Contains(text, x.says) {
				t.Errorf("exit %d; wanted %d and %q in:\n%s", exit, x.exit, x.says, text)
			}
			if other, taken := said[first]; taken {
				t.Errorf("says the same as for %s: %s", other, first)
			}
			said[first] = x.name
		})
	}
	if exit, text := f.doctor(t, "fine", good.Join); exit != doctor.ExitAgent || !strings.Contains(text, "no agent is at work here") {
		t.Errorf("without a fault but that no agent runs: exit %d\n%s", exit, text)
	}
	var nodes api.List[api.Node]
	if err := f.get("/v1/nodes", &nodes); err != nil || len(nodes.Items) != 1 {
		t.Errorf("nodes %v, error %v; wanted the one that runs: the doctor enrols nobody", nodes.Items, err)
	}
}

// faults makes the faults that a join string, its token or the network can have.
func (f *field) faults() []fault {
	f.t.Helper()
	fresh := func() api.Join { return parsed(f.t, f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join) }
	to := func(endpoint string) string {
		j := fresh()
		j.Endpoints = []string{endpoint}
		return j.String()
	}
	pin := fresh()
	pin.CASHA256 = strings.Repeat("ab", 32)
	port := portOf(f.t, f.admin.Server)
	whole := fresh().String()
	return []fault{
		{name: "wrong pin", join: pin.String(), exit: doctor.ExitPin, says: "not the one of the join string"},
		{name: "expired token", join: f.expired(), exit: doctor.ExitToken, says: "expired"},
		{name: "used token", join: f.used(), exit: doctor.ExitToken, says: "used"},
		{name: "revoked token", join: f.revoked(), exit: doctor.ExitToken, says: "revoked"},
		{name: "wrong name", join: to(elsewhere(f.t, "127.0.0.1:"+port)), exit: doctor.ExitTLS, says: "advertise: [127.0.0.2]"},
		{name: "closed port", join: to("https://" + freeport.Addr(f.t)), exit: doctor.ExitTCP, says: "is skerry-cluster running"},
		{name: "no route", join: to("https://198.51.100.1:8443"), exit: doctor.ExitTCP, says: "no route", by: []string{"unshare", "--net"}},
		{name: "no such name", join: to("https://cluster.invalid:8443"), exit: doctor.ExitDNS, says: "cluster.invalid"},
		{name: "plain http", join: to(plain(f.t)), exit: doctor.ExitTLS, says: "does not speak TLS"},
		{name: "truncated", join: whole[:len(whole)-9], exit: doctor.ExitJoin, says: "copied whole"},
		{name: "no join", exit: doctor.ExitJoin, says: "join is empty"},
		{name: "clock far ahead", join: fresh().String(), exit: doctor.ExitClock, says: "ahead of the server's certificate", by: withClock(f.t, 10*year)},
	}
}

// TestTheDoctorNamesARemovedNode has the broker refuse a node that was enrolled before.
func TestTheDoctorNamesARemovedNode(t *testing.T) {
	f := newField(t)
	node := f.node("gone", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "")
	start(t, node)
	f.online("gone")
	kill(t, node)
	if err := f.client.Delete(t.Context(), "/v1/nodes/gone"); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), node.Program, "doctor", "--config", node.Args[2]).CombinedOutput()
	if exit := exitOf(t, err); exit != doctor.ExitBroker || !strings.Contains(string(out), "the broker refuses this node") {
		t.Errorf("exit %d\n%s", exit, out)
	}
}

func (f *field) expired() string {
	f.t.Helper()
	token := f.join(api.TokenRequest{TTL: "1s"})
	poll(f.t, time.Minute, "the token has expired", func() error {
		if time.Now().Before(token.Expires.Time()) {
			return errors.New("not yet")
		}
		return nil
	})
	return token.Join
}

func (f *field) used() string {
	f.t.Helper()
	token := f.join(api.TokenRequest{TTL: "1h", MaxUses: 1})
	node := f.node("user", token.Join, "")
	start(f.t, node)
	f.online("user")
	kill(f.t, node)
	return token.Join
}

func (f *field) revoked() string {
	f.t.Helper()
	token := f.join(api.TokenRequest{TTL: "1h"})
	if err := f.client.Delete(f.t.Context(), "/v1/tokens/"+token.ID); err != nil {
		f.t.Fatal(err)
	}
	return token.Join
}

// doctor runs `skerry-edge doctor` for a node that has not enrolled.
func (f *field) doctor(t *testing.T, name, join string, by ...string) (exit int, text string) {
	t.Helper()
	node := f.node("dr-"+name, join, "")
	line := append(by, node.Program, "doctor", "--config", node.Args[2])
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, line[0], line[1:]...).CombinedOutput()
	return exitOf(t, err), string(out)
}

func exitOf(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		t.Fatalf("run doctor: %v", err)
	}
	return exit.ExitCode()
}

// failure is what of the doctor's output tells one fault from another: all but what went well.
func failure(text string) string {
	var out []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "ok") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

func parsed(t *testing.T, join string) api.Join {
	t.Helper()
	j, err := api.ParseJoin(join)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// plain serves HTTP without TLS, and returns its address as an https URL.
func plain(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return "https://" + s.Listener.Addr().String()
}

// elsewhere passes connections on to target from an address that the cluster agent does not know to be its own.
func elsewhere(t *testing.T, target string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
	return "https://" + l.Addr().String()
}
