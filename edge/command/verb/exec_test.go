package verb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/command"
)

func allowed() []Allow {
	return []Allow{
		{Name: "echo", Argv: []string{"/bin/echo"}, Args: []string{"[^-].*", ".*"}},
		{Name: "restart-web", Argv: []string{"/bin/echo", "restart", "web"}},
		{Name: "df", Argv: []string{"/bin/df"}, Args: []string{"-h|-k"}},
		{Name: "env", Argv: []string{"/usr/bin/env"}, Env: map[string]string{"SITE": "7", "LANG": "C"}},
		{Name: "cat", Argv: []string{"/bin/cat"}},
		{Name: "sh", Argv: []string{"/bin/sh", "-c"}, Args: []string{"(?s).*"}}, // the site's own risk; serves the tests
		{Name: "slow", Argv: []string{"/bin/sleep", "600"}, Timeout: 50 * time.Millisecond},
		{Name: "missing", Argv: []string{"/nonexistent/program"}},
		{Name: "nobody", Argv: []string{"/usr/bin/id", "-u"}, User: "nobody"},
	}
}

func TestExecRunsWhatIsAllowed(t *testing.T) {
	e := must(NewExec(allowed(), nil))(t)
	for _, c := range []struct {
		argv   []string
		output string
	}{
		{[]string{"echo", "a b", "c"}, "a b c\n"},
		{[]string{"/bin/echo", "x"}, ""}, // the second argument may be empty, so it may be left out
		{[]string{"restart-web"}, "restart web\n"},
		{[]string{"/bin/echo", "restart", "web"}, "restart web\n"},
		// Whatever a shell would make of an argument, the program sees it as it is.
		{[]string{"echo", "$(id)", "`id`;id|id>x&&*?~"}, "$(id) `id`;id|id>x&&*?~\n"},
		{[]string{"echo", "$HOME", "'\"\\"}, "$HOME '\"\\\n"},
	} {
		out, err := do(t.Context(), e, argv(c.argv...))
		if err != nil || out.Exit == nil || *out.Exit != 0 {
			t.Errorf("%q: exit %v, error %v", c.argv, out.Exit, err)
		}
		if c.output != "" && out.Output != c.output {
			t.Errorf("%q printed %q; wanted %q", c.argv, out.Output, c.output)
		}
	}
}

func TestExecRefusesWhatIsNotAllowed(t *testing.T) {
	e := must(NewExec(allowed(), nil))(t)
	t.Setenv("PATH", "/bin:/usr/bin")
	for _, c := range [][]string{
		{}, {""}, {"id"}, {"/usr/bin/id"}, {"/bin/../bin/echo", "x"}, {"./echo", "x"}, {"echo; id"}, {"echo id"}, {"//bin/echo", "x"},
		{"echo", "-e"}, {"echo", "a", "b", "c"}, {"df"}, {"df", "-hT"}, {"df", "-h\n"}, {"df", "\n-h"}, {"df", "-h", "/"}, {"df", "x-h"},
		{"/bin/df", "--version"}, {"restart-web", "now"}, {"/bin/cat", "/etc/shadow"}, {"cat", "/etc/shadow"}, {"echo", "a\x00b"},
		{"echo", strings.Repeat("x", maxArgBytes+1)}, {"/usr/bin/env", "LD_PRELOAD=/tmp/x.so", "id"}, {"env", "A=B"},
	} {
		if out, err := do(t.Context(), e, argv(c...)); !errors.Is(err, command.ErrRejected) {
			t.Errorf("%.60q: %+v, error %v; wanted a rejection", c, out, err)
		}
	}
	for name, args := range map[string]map[string]any{
		"environment":   {"argv": []any{"env"}, "env": map[string]any{"LD_PRELOAD": "/tmp/x.so"}},
		"directory":     {"argv": []any{"cat"}, "dir": "/root"},
		"user":          {"argv": []any{"cat"}, "user": "root"},
		"not a list":    {"argv": "echo x"},
		"not strings":   {"argv": []any{"echo", 1.0}},
		"stream id":     {"argv": []any{"echo", "x"}, "stream": "../x"},
		"no argv":       {},
		"null argv":     {"argv": nil},
		"no streams":    {"argv": []any{"echo", "x"}, "stream": "s1"},
		"stdin too big": {"argv": []any{"cat"}, "stdin": strings.Repeat("x", 33<<10)},
	} {
		if _, err := do(t.Context(), e, args); !errors.Is(err, command.ErrRejected) {
			t.Errorf("%s: error %v; wanted a rejection", name, err)
		}
	}
}

func TestExecGivesNothingOfTheAgentsEnvironment(t *testing.T) {
	t.Setenv("SKERRY_EDGE_JOIN", "secret")
	e := must(NewExec(allowed(), nil))(t)
	out, err := do(t.Context(), e, argv("env"))
	if err != nil {
		t.Fatal(err)
	}
	wanted := "HOME=/\nLANG=C\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nSITE=7\n"
	if out.Output != wanted {
		t.Errorf("environment %q; wanted %q", out.Output, wanted)
	}
}

func TestExecTellsHowItEnded(t *testing.T) {
	e := must(NewExec(allowed(), nil))(t)
	out, err := do(t.Context(), e, argv("sh", "echo out; echo err >&2; exit 3"))
	if err == nil || errors.Is(err, command.ErrRejected) || out.Exit == nil || *out.Exit != 3 {
		t.Errorf("exit %v, error %v; wanted 3 and a failure", out.Exit, err)
	}
	if !strings.Contains(out.Output, "out\n") || !strings.Contains(out.Output, "err\n") {
		t.Errorf("output %q", out.Output)
	}
	if out, err = do(t.Context(), e, argv("sh", "kill -9 $$")); err == nil || out.Exit != nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("killed: exit %v, error %v", out.Exit, err)
	}
	if _, err = do(t.Context(), e, argv("missing")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("missing program: %v", err)
	}
	if _, err = do(t.Context(), e, argv("slow")); err == nil || !strings.Contains(err.Error(), "timeout of 50ms") {
		t.Errorf("slow program: %v", err)
	}
	args := argv("cat")
	args["stdin"] = "to and fro"
	if out, err = do(t.Context(), e, args); err != nil || out.Output != "to and fro" {
		t.Errorf("stdin: %q, error %v", out.Output, err)
	}
}

func TestExecRunsAsAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	e := must(NewExec(allowed(), nil))(t)
	out, err := do(t.Context(), e, argv("nobody"))
	if err != nil || strings.TrimSpace(out.Output) == "0" {
		t.Errorf("ran as %q, error %v", out.Output, err)
	}
}

func TestExecKeepsTheEndOfALongOutput(t *testing.T) {
	p := newPipe()
	p.changed = make(chan struct{}, 1<<16)
	e := must(NewExec(allowed(), p))(t)
	args := argv("sh", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")
	args["stream"] = "s1"
	out, err := do(t.Context(), e, args)
	if err != nil {
		t.Fatal(err)
	}
	whole := p.got(api.ChannelStdout)
	if len(out.Output) != api.MaxOutputBytes || !strings.HasSuffix(out.Output, "line 19999\n") || !strings.HasSuffix(whole, out.Output) {
		t.Errorf("kept %d bytes", len(out.Output))
	}
	if int(out.Truncated)+len(out.Output) != len(whole) || !strings.HasPrefix(whole, "line 0\n") {
		t.Errorf("truncated %d, streamed %d", out.Truncated, len(whole))
	}
	if closed, why := p.end(); !closed || why != nil || !p.ended[api.ChannelStdout] || !p.ended[api.ChannelStderr] {
		t.Errorf("stream closed %v (%v), ended %v", closed, why, p.ended)
	}
}

// A program may end long before a slow stream has taken what it printed.
func TestExecBringsAllOutputThroughASlowStream(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	p := newPipe()
	p.hold = make(chan struct{})
	e := must(NewExec(allowed(), p))(t)
	args := argv("sh", "echo $$ > "+pidFile+"; head -c 60000 /dev/zero | tr '\\0' x; echo end")
	args["stream"] = "s1"
	ended := make(chan error, 1)
	go func() {
		_, err := do(t.Context(), e, args)
		ended <- err
	}()
	var pid int
	eventually(t, func() bool {
		raw, _ := os.ReadFile(pidFile)
		n, err := fmt.Sscan(string(raw), &pid)
		return n == 1 && err == nil
	})
	eventually(t, func() bool { return !alive(pid) })
	if !agent.Wait(t.Context(), agent.Linger+agent.Linger/2) {
		t.Fatal("test ended")
	}
	close(p.hold)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := p.got(api.ChannelStdout); len(got) != 60004 || !strings.HasSuffix(got, "xend\n") {
		t.Errorf("%d bytes came through", len(got))
	}
}

func TestExecSurvivesALostStream(t *testing.T) {
	p := newPipe()
	p.fail = errors.New("peer is gone")
	e := must(NewExec(allowed(), p))(t)
	args := argv("sh", "echo a; echo b; exit 0")
	args["stream"] = "s1"
	out, err := do(t.Context(), e, args)
	if err != nil || out.Output != "a\nb\n" || !strings.Contains(fmt.Sprint(out.Result["stream"]), "peer is gone") {
		t.Errorf("output %q, result %v, error %v", out.Output, out.Result, err)
	}
}

// alive reports whether pid runs (a zombie does not).
func alive(pid int) bool {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestExecKillsTheWholeGroup(t *testing.T) {
	for name, script := range map[string]string{
		"told to end":     "sleep 600 & echo $!; (sleep 600 & echo $!; wait) & wait",
		"ignores SIGTERM": "trap '' TERM; sleep 600 & echo $!; (trap '' TERM; sleep 600 & echo $!; wait) & wait; wait",
		"leader is gone":  "sleep 600 & echo $!; (sleep 600 & echo $!) & exit 0",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPipe()
			e := must(NewExec(allowed(), p))(t)
			args := argv("sh", script)
			args["stream"] = "s1"
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := do(ctx, e, args)
				ended <- err
			}()
			if name != "leader is gone" {
				p.until(t, func() bool { return strings.Count(p.got(api.ChannelStdout), "\n") == 2 })
				cancel()
			}
			err := <-ended
			if (err == nil) != (name == "leader is gone") {
				t.Errorf("ended with %v", err)
			}
			for _, line := range strings.Fields(p.got(api.ChannelStdout)) {
				pid, err := strconv.Atoi(line)
				if err != nil {
					t.Fatal(err)
				}
				eventually(t, func() bool { return !alive(pid) })
			}
			if closed, _ := p.end(); !closed {
				t.Error("the stream was not closed")
			}
		})
	}
}

func TestExecDoesNotWaitForWhatLeftTheGroup(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	e := must(NewExec(allowed(), nil))(t)
	_, err := do(t.Context(), e, argv("sh", "setsid sh -c 'echo $$ > "+pidFile+"; exec sleep 600' & while [ ! -s "+pidFile+" ]; do :; done"))
	if err != nil {
		t.Error(err)
	}
	raw, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("what left the group was waited for: %v", err)
	}
}

func TestExecConfigurationFaultsAreAllReported(t *testing.T) {
	bad := []Allow{{Name: "a/b", Argv: []string{"df"}}, {Name: "x", Argv: []string{"/x"}, Args: []string{"("}, Env: map[string]string{"A=B": ""}, Dir: "d", Timeout: -1}}
	_, err := NewExec(bad, nil)
	if err == nil || strings.Count(err.Error(), "exec[") != 6 {
		t.Errorf("faults: %v", err)
	}
	e := must(NewExec(allowed(), nil))(t)
	if e.Allow(bad) == nil {
		t.Error("faults were taken")
	}
	if _, err := do(t.Context(), e, argv("restart-web")); err != nil {
		t.Errorf("a bad change broke the good list: %v", err)
	}
	if err := e.Allow(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := do(t.Context(), e, argv("restart-web")); !errors.Is(err, command.ErrRejected) {
		t.Errorf("still allowed: %v", err)
	}
}

func FuzzMatchNeverGoesBeyondTheList(f *testing.F) {
	rules, err := compileRules(allowed()[:3])
	if err != nil {
		f.Fatal(err)
	}
	f.Add("echo", "a", "b")
	f.Add("/bin/echo", "restart", "web")
	f.Add("df", "-h", "")
	f.Add("/bin/df", "-k\n", "")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for _, argv := range [][]string{{a}, {a, b}, {a, b, c}} {
			r, run, err := match(rules, argv)
			if err != nil {
				continue
			}
			if len(run) < len(r.Argv) || run[0] != r.Argv[0] || run[0] != "/bin/echo" && run[0] != "/bin/df" {
				t.Fatalf("%q runs %q", argv, run)
			}
			if run[0] == "/bin/df" && (len(run) != 2 || run[1] != "-h" && run[1] != "-k") {
				t.Fatalf("%q runs %q", argv, run)
			}
		}
	})
}

func TestWhatMayRunIsToldByNameAndProgram(t *testing.T) {
	for want, rules := range map[string][]rule{
		`args.argv[0] "/bin/rm" is not allowed on this node; wanted kernel (/bin/uname -a), space (/bin/df)`: {
			{Allow: Allow{Name: "kernel", Argv: []string{"/bin/uname", "-a"}}}, {Allow: Allow{Name: "space", Argv: []string{"/bin/df"}}}},
		`args.argv[0] "/bin/rm" is not allowed on this node; its configuration allows no program (command.exec)`: nil,
	} {
		if _, _, err := match(rules, []string{"/bin/rm"}); err == nil || err.Error() != want {
			t.Errorf("%v; wanted %s", err, want)
		}
	}
}
