package edge

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/doctor"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/test/enrolment"
)

// TestAJoinThatCanNeverWorkIsAFaultOfTheConfiguration has run end at once where a restart mends nothing.
func TestAJoinThatCanNeverWorkIsAFaultOfTheConfiguration(t *testing.T) {
	const secret = "S3CRET"
	join := api.Join{Endpoints: []string{"https://192.0.2.1:8443"}, CASHA256: strings.Repeat("ab", 32), ID: "t1", Secret: secret, Issued: 1, Expires: 2}
	damaged := []byte(join.String())
	damaged[60] ^= 1
	empty := filepath.Join(t.TempDir(), "join")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ join, says string }{
		"none":                 {"", "join: wanted a join string"},
		"garbage":              {"correct horse battery staple", "(28 bytes, not shown)"},
		"a file that is not":   {"@/nonexistent", `join "@/nonexistent": wanted`},
		"a file with nothing":  {"@" + empty, `join "@` + empty + `": wanted`},
		"one character damage": {string(damaged), "damaged"},
		"cut":                  {join.String()[:80], "was it copied whole?"},
	} {
		exit, _, errs := door(t, t.TempDir(), "run", "--join", c.join, "--set", "log.level=loud")
		if exit != ExitConfig || !strings.Contains(errs, c.says) || !strings.Contains(errs, "skerry token create") || !strings.Contains(errs, "log.level") {
			t.Errorf("%s: exit %d; wanted 2 and %q, beside the other fault, in:\n%s", name, exit, c.says, errs)
		}
		if c.join != "" && strings.Contains(errs, c.join) && c.join[0] != '@' || strings.Contains(errs, secret) {
			t.Errorf("%s: tells the join string:\n%s", name, errs)
		}
	}
}

// TestTheDoctorKnowsThatADeviceWaits has a device that was given its join string on the command line of an earlier start.
func TestTheDoctorKnowsThatADeviceWaits(t *testing.T) {
	s := &enrolment.Service{}
	var approved atomic.Bool
	s.Enroll = func(r *api.EnrollRequest) (*api.EnrollReply, *api.Problem) {
		if approved.Load() && r.CheckOnly {
			return &api.EnrollReply{Status: api.EnrollIssued, Node: r.Node, Time: api.At(time.Now())}, nil
		}
		return &api.EnrollReply{Status: api.EnrollPending, RetryAfterMillis: 1000, Time: api.At(time.Now())}, nil
	}
	s.Start(t)
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "run", "--join", s.Join().String(), "--set", "node=pump-3", "--set", "dir="+dir,
		"--set", "runtime_dir="+filepath.Join(dir, "run"))
	cmd.Env = append(os.Environ(), asDoor+"=1")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait := func(what string, ok func() bool) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for end := time.After(2 * time.Minute); !ok(); {
			select {
			case <-end:
				t.Fatalf("waited in vain until %s:\n%s", what, &log)
			case <-tick.C:
			}
		}
	}
	wait("the join string is concealed", func() bool {
		line, err := os.ReadFile("/proc/" + pid(cmd) + "/cmdline")
		return err == nil && bytes.Contains(line, []byte("--join\x00****")) && !bytes.Contains(line, []byte("skerry1."))
	})
	examine := func(when string) {
		t.Helper()
		if exit, out, errs := door(t, dir, "doctor"); exit != doctor.ExitApproval || !strings.Contains(out, "skerry approve pump-3") {
			t.Errorf("%s: exit %d; wanted 19 in:\n%s%s", when, exit, out, errs)
		}
	}
	wait("it asked", func() bool { return len(s.Asked()) > 0 })
	wait("the status says so", func() bool {
		_, out, _ := door(t, dir, "status")
		return strings.Contains(out, "waiting for approval")
	})
	examine("while it runs")
	approved.Store(true) // and the agent has not asked again yet
	if exit, out, _ := door(t, dir, "doctor"); exit != doctor.ExitOK || !strings.Contains(out, "approved; the running agent asks again") {
		t.Errorf("just approved: exit %d in:\n%s", exit, out)
	}
	approved.Store(false)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("stop: %v\n%s", err, &log)
	}
	examine("after it was stopped")
}

// inCluster is the directory of a device that s has enrolled.
func inCluster(t *testing.T, s *enrolment.Service) string {
	t.Helper()
	dir := t.TempDir()
	id, err := identity.New("pump-3")
	if err != nil {
		t.Fatal(err)
	}
	csr, err := id.CSR()
	if err != nil {
		t.Fatal(err)
	}
	if id, err = id.With(s.Issue("pump-3", csr), s.CA.SHA256()); err != nil {
		t.Fatal(err)
	}
	if err := id.Save(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestAnInstallerCanHaveAJoinStringJudged asks before anything is written.
func TestAnInstallerCanHaveAJoinStringJudged(t *testing.T) {
	own, other := (&enrolment.Service{}).Start(t), (&enrolment.Service{}).Start(t)
	joined := inCluster(t, own)
	file := filepath.Join(t.TempDir(), "join")
	if err := os.WriteFile(file, []byte(own.Join().String()[:90]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir, join string
		exit      int
		says      string
	}{
		"good, on a new device":       {t.TempDir(), own.Join().String(), ExitOK, ""},
		"of its own cluster":          {joined, own.Join().String(), ExitOK, ""},
		"of another cluster":          {joined, other.Join().String(), ExitConfig, "for another cluster than c, in which this device stays; to move it: skerry-edge leave"},
		"cut, on a new device":        {t.TempDir(), own.Join().String()[:90], ExitConfig, "was it copied whole?"},
		"cut, in a file":              {t.TempDir(), "@" + file, ExitConfig, "was it copied whole?"},
		"cut, on a device that is in": {joined, own.Join().String()[:90], ExitConfig, "was it copied whole?"},
		"no file":                     {t.TempDir(), "@/nonexistent", ExitConfig, "no such file"},
	} {
		exit, out, errs := door(t, c.dir, "config", "--join", c.join)
		if exit != c.exit || !strings.Contains(errs, c.says) || (errs == "") != (exit == ExitOK) || (out == "") == (exit == ExitOK) {
			t.Errorf("%s: exit %d; wanted %d and %q in:\n%s%s", name, exit, c.exit, c.says, out, errs)
		}
		if strings.Contains(out+errs, own.Join().String()[:90]) || strings.Contains(out+errs, other.Join().String()[:90]) {
			t.Errorf("%s: tells the join string:\n%s%s", name, out, errs)
		}
	}
}

// TestAJoinStringOfAnotherClusterIsNotIgnoredInSilence starts an agent that is in one.
func TestAJoinStringOfAnotherClusterIsNotIgnoredInSilence(t *testing.T) {
	dir := inCluster(t, (&enrolment.Service{}).Start(t))
	cmd := exec.CommandContext(t.Context(), os.Args[0], "run", "--join", (&enrolment.Service{}).Start(t).Join().String(), "--set", "dir="+dir,
		"--set", "runtime_dir="+filepath.Join(dir, "run"))
	cmd.Env = append(os.Environ(), asDoor+"=1")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const says = "the join string is for another cluster than c, in which this device stays; to move it: skerry-edge leave"
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end, told := time.After(2*time.Minute), false; !told; {
		select {
		case <-end:
			t.Fatalf("the status never says it:\n%s", &log)
		case <-tick.C:
			_, out, _ := door(t, dir, "status")
			told = strings.Contains(out, says)
		}
	}
	if _, out, _ := door(t, dir, "doctor"); !strings.Contains(out, says) {
		t.Errorf("the doctor does not say it:\n%s", out)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("stop: %v\n%s", err, &log)
	}
	if got := strings.Count(log.String(), says); got != 1 || !strings.Contains(log.String(), "WARN") {
		t.Errorf("the log says it %d times; wanted once, as a warning:\n%s", got, &log)
	}
}

func TestARestartDoesWithoutTheConcealedString(t *testing.T) {
	got := shown([]string{"skerry-edge", "run", "--join", "*****", "-c", "x", "--join=**", "--set", "join=*", "--set=join=**", "--set", "node=a", "--join", "@f"})
	if want := "skerry-edge run -c x --set node=a --join @f"; strings.Join(got, " ") != want {
		t.Errorf("%q; wanted %q", got, want)
	}
	argv := [][]byte{[]byte("skerry-edge"), []byte("--join=secret"), []byte("--join"), []byte("hidden"), []byte("--set"), []byte("join=third"), []byte("--join=@file")}
	var args []string
	for _, b := range argv {
		args = append(args, unsafe.String(&b[0], len(b)))
	}
	kept := conceal(args, args)
	if got := string(bytes.Join(argv, []byte(" "))); got != "skerry-edge --join=****** --join ****** --set join=***** --join=@file" {
		t.Errorf("left in argv: %s", got)
	}
	if strings.Join(kept, " ") != "skerry-edge --join=secret --join hidden --set join=third --join=@file" {
		t.Errorf("kept %q", kept)
	}
}
