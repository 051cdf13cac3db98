package system

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/doctor"
)

// TestAnAddressThatIsAddedLaterIsServed does what the doctor says about a wrong name: the cluster agent starts with one more
// advertised address, and shows a certificate that has it, under the same CA. A node from before notices nothing.
func TestAnAddressThatIsAddedLaterIsServed(t *testing.T) {
	f := newField(t)
	early := f.node("early", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "")
	start(t, early)
	f.online("early")
	join := parsed(t, f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join)
	join.Endpoints = []string{elsewhere(t, "127.0.0.1:"+portOf(t, f.admin.Server))}
	exit, text := f.doctor(t, "late", join.String())
	if exit != doctor.ExitTLS || !strings.Contains(text, "advertise: [127.0.0.2]") {
		t.Fatalf("exit %d, before the address is advertised:\n%s", exit, text)
	}
	kill(t, f.cluster)
	f.cluster.Args = append(f.cluster.Args, "--set", "advertise=127.0.0.1,127.0.0.2") // the last one wins
	start(t, f.cluster)
	poll(t, time.Minute, "the added address is served", func() error { return f.get("/v1/status", &f.status) })
	if exit, text := f.doctor(t, "late", join.String()); exit != doctor.ExitAgent { // all but that it has not been started
		t.Errorf("exit %d, after the address is advertised:\n%s", exit, text)
	}
	late := f.node("late", join.String(), "")
	start(t, late)
	f.online("late")
	f.online("early")
	f.ping("early")
	if next := parsed(t, f.join(api.TokenRequest{TTL: "1h"}).Join); len(next.Endpoints) != 2 || next.CASHA256 != join.CASHA256 {
		t.Errorf("the next join string has %v and CA %s; wanted both addresses, and the CA of before", next.Endpoints, next.CASHA256)
	}
	out, err := exec.CommandContext(t.Context(), early.Program, "doctor", "--config", early.Args[2]).CombinedOutput()
	if exit := exitOf(t, err); exit != doctor.ExitOK {
		t.Errorf("a node from before: exit %d\n%s", exit, out)
	}
}
