package system

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/doctor"
	"github.com/skerry-edge/skerry/test/skew"
)

// clockShift is the variable that has this test program run another one, its arguments, with a wrong clock.
const clockShift = "SKERRY_TEST_CLOCK_SHIFT"

const year = 365 * 24 * time.Hour

func TestMain(m *testing.M) {
	shift, wrong := os.LookupEnv(clockShift)
	if wrong {
		os.Exit(runShifted(shift, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// runShifted runs a program with a wrong clock and returns its exit code.
func runShifted(shift string, line []string) int {
	by, err := time.ParseDuration(shift)
	code := 125
	if err == nil {
		err = os.Unsetenv(clockShift)
	}
	if err == nil {
		code, err = skew.Run(func() time.Duration { return by }, line)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "run with a wrong clock:", err)
		return 125
	}
	return code
}

// withClock is what to put before a program so that its clock is off by shift.
func withClock(t *testing.T, shift time.Duration) []string {
	t.Helper()
	if !skew.Can {
		t.Skip("a wrong clock is shown to a program on amd64 alone")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{"env", clockShift + "=" + shift.String(), self}
}

// since1970 is how far behind a clock is that begins anew at each boot.
func since1970() time.Duration { return -time.Since(time.Unix(60, 0)) }

// shifted has a process run with a wrong clock from its next start on.
func (f *field) shifted(p *Process, shift time.Duration) {
	f.t.Helper()
	line := append(withClock(f.t, shift), append([]string{p.Program}, p.Args...)...)
	env, err := exec.LookPath(line[0])
	if err != nil {
		f.t.Fatal(err)
	}
	p.Program, p.Args = env, line[1:]
}

// TestADeviceThatWakesIn1970NeedsNoHands has a device without a battery for its clock: the kernel says 1970 at each boot.
func TestADeviceThatWakesIn1970NeedsNoHands(t *testing.T) {
	t.Parallel()
	f := newField(t)
	join := f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join
	exit, text := f.doctor(t, "epoch", join, withClock(t, since1970())...)
	if exit != doctor.ExitAgent || !strings.Contains(text, "behind what is surely past") {
		t.Errorf("exit %d; wanted 22, since it has not been started, and the clock told of:\n%s", exit, text)
	}
	node := f.node("epoch", join, "")
	f.shifted(node, since1970())
	start(t, node)
	f.online("epoch")
	f.ping("epoch")
	kill(t, node)
	start(t, node) // with a certificate, and 1970 once more
	f.ping("epoch")
}

// TestAClockThatRunsAwayIsNotTakenForAnExpiredNode sets the clock of an enrolled node ten years ahead: its certificate
// looks expired, and the doctor does not say so without a word of the clock.
func TestAClockThatRunsAwayIsNotTakenForAnExpiredNode(t *testing.T) {
	f := newField(t)
	node := f.node("fast", f.join(api.TokenRequest{TTL: "1h", MaxUses: 1}).Join, "")
	start(t, node)
	f.online("fast")
	kill(t, node)
	line := append(withClock(t, 10*year), node.Program, "doctor", "--config", node.Args[2])
	out, err := exec.CommandContext(t.Context(), line[0], line[1:]...).CombinedOutput()
	if exit := exitOf(t, err); exit != doctor.ExitCertificate || !strings.Contains(string(out), "if the time is wrong, set the clock") {
		t.Errorf("exit %d\n%s", exit, out)
	}
	start(t, node) // the clock is right again
	f.ping("fast")
}
