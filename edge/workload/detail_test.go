package workload_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/workload"
)

func TestAFailedPullIsToldAndTriedAgainAsAKubeletDoes(t *testing.T) {
	bubble(t, func(r *rig) {
		w := pod("web", "serve")
		w.Containers[0].Image = "registry.test/later:1"
		r.want(w)
		c := r.first("web")
		equal(t, "state", r.status("web").State, api.WorkloadPending)
		equal(t, "reason", c.Reason, "ErrImagePull")
		equal(t, "message", c.Message, "image registry.test/later:1: no such image")
		r.after(4 * time.Second)
		c = r.first("web")
		equal(t, "reason", c.Reason, "ImagePullBackOff")
		equal(t, "message", c.Message, `Back-off pulling image "registry.test/later:1": ErrImagePull: image registry.test/later:1: no such image`)
		r.after(20 * time.Second) // 10 s, then 20 s
		equal(t, "pulls", r.fake.Pulls(), 2)
		r.fake.Offer("registry.test/later:1", "sha256:"+strings.Repeat("a", 64))
		r.after(10 * time.Second)
		equal(t, "state", r.status("web").State, api.WorkloadRunning)
		equal(t, "restarts", r.first("web").Restarts, 0)
	})
}

func TestWhyAContainerIsNotBegunIsTold(t *testing.T) {
	for reason, change := range map[string]func(r *rig, w *api.Workload){
		"ErrImageNeverPull":          func(_ *rig, w *api.Workload) { w.Containers[0].Pull = api.PullNever },
		"RunContainerError":          func(r *rig, _ *api.Workload) { r.fake.Break("Start", errors.New("exec format error")) },
		"CreateContainerConfigError": func(_ *rig, w *api.Workload) { w.Sealed = &api.Sealed{ID: "i", Key: "k"} },
		"ContainerCreating":          func(r *rig, _ *api.Workload) { r.fake.Hang("Pull") },
	} {
		bubble(t, func(r *rig) {
			w := pod("web", "serve")
			change(r, &w)
			r.want(w)
			c := r.first("web")
			equal(t, "reason", c.Reason, reason)
			if c.Message == "" && reason != "ContainerCreating" {
				t.Errorf("%s has no message", reason)
			}
		})
	}
	bubble(t, func(r *rig) {
		r.fake.Break("Start", fmt.Errorf("user 0: %w", workload.ErrBadContainer))
		r.want(pod("web", "serve"))
		equal(t, "reason", r.first("web").Reason, "CreateContainerConfigError")
	})
}

func TestANodeThatReachesNobodyStartsFromTheImageItHas(t *testing.T) {
	bubble(t, func(r *rig) {
		w := pod("web", "serve")
		w.Containers[0].Pull = api.PullAlways
		r.want(w)
		r.fake.Break("Pull", errors.New("no route to host"))
		r.fake.End("web_c0_1", 1)
		synctest.Wait()
		equalLists(t, "running", r.fake.Running(), "web_c0_2")
	})
}

func TestHowAContainerEndedIsTold(t *testing.T) {
	bubble(t, func(r *rig) {
		w := pod("job", "message done exit 0", "complain cause exit 5", "serve")
		w.Restart = api.RestartNever
		w.Containers[1].LogAsMsg = true
		r.want(w)
		r.fake.Kill("job_c2_1")
		synctest.Wait()
		s := r.status("job")
		equal(t, "state", s.State, api.WorkloadFailed)
		for i, want := range []api.Termination{{Exit: 0, Reason: "Completed", Message: "done"}, {Exit: 5, Reason: "Error", Message: "cause\n"}, {Exit: 137, Reason: "OOMKilled", Signal: 9}} {
			end := *s.Containers[i].End
			if end.Exit != want.Exit || end.Reason != want.Reason || end.Message != want.Message || end.Signal != want.Signal || end.Finished == 0 {
				t.Errorf("container %d ended as %+v; wanted %+v", i, end, want)
			}
		}
	})
}

func TestAWorkloadEndsWhenItHasRunForAsLongAsItMay(t *testing.T) {
	bubble(t, func(r *rig) {
		w := pod("job", "serve")
		w.LimitSeconds = 60
		r.want(w)
		r.after(59 * time.Second)
		equal(t, "state", r.status("job").State, api.WorkloadRunning)
		r.after(2 * time.Second)
		s := r.status("job")
		equal(t, "state", s.State, api.WorkloadFailed)
		equal(t, "reason", s.Reason, "DeadlineExceeded")
		equalLists(t, "running", r.fake.Running())
	})
}

func TestAVolumeThatOutgrowsItsBoundEndsItsWorkloadForGood(t *testing.T) {
	bubble(t, func(r *rig) {
		w := pod("web", "serve")
		w.Volumes = []api.Volume{{Name: "free", Empty: &api.EmptyVolume{}}, {Name: "cache", Empty: &api.EmptyVolume{SizeBytes: 1000}}}
		r.want(w, pod("other", "serve"))
		grow := func(volume string, n int) {
			t.Helper()
			dir := filepath.Join(r.dir, "disk", "web", "volumes", volume)
			if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "grown"), make([]byte, n), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		grow("free", 5000)
		grow("cache", 1000)
		r.after(time.Minute)
		equal(t, "state", r.status("web").State, api.WorkloadRunning)
		grow("cache", 1001)
		r.after(11 * time.Second)
		s := r.status("web")
		equal(t, "state", s.State, api.WorkloadFailed)
		equal(t, "reason", s.Reason, "Evicted")
		equal(t, "message", s.Message, `Usage of EmptyDir volume "cache" exceeds the limit of 1000 bytes`)
		grow("cache", 10)
		r.stop()
		r.start() // it is remembered
		r.want(w, pod("other", "serve"))
		r.after(time.Minute)
		equal(t, "state in the next life", r.status("web").State, api.WorkloadFailed)
		equalLists(t, "running", r.fake.Running(), "other_c0_1")
		w.Hostname = "anew"
		r.want(w, pod("other", "serve"))
		r.after(time.Minute)
		equal(t, "state in another frame", r.status("web").State, api.WorkloadRunning)
	})
}

func TestChecksDecideWhatIsReadyAndWhatIsRestarted(t *testing.T) {
	bubble(t, func(r *rig) {
		check := func(argv ...string) *api.HealthCheck {
			return &api.HealthCheck{HealthAction: api.HealthAction{Exec: argv}, PeriodSeconds: 10, TimeoutSeconds: 1, Successes: 1, Failures: 3}
		}
		w := pod("web", "serve")
		c := &w.Containers[0]
		c.Startup, c.Liveness, c.Readiness = check("ok"), check("ok"), check("fail")
		c.Startup.DelaySeconds = 5
		r.want(w)
		equal(t, "up at once", r.first("web").Up, false)
		r.after(6 * time.Second)
		equal(t, "up", r.first("web").Up, true)
		equal(t, "ready", r.status("web").Ready, false)
		c.Readiness = check("ok")
		r.want(w)
		r.after(time.Minute)
		equal(t, "ready", r.status("web").Ready, true)
		equal(t, "restarts for other checks", r.first("web").Restarts, 1)
		c.Liveness = check("fail", "2")
		r.want(w)
		r.after(6 * time.Second)
		equal(t, "ready", r.status("web").Ready, true)
		r.after(22 * time.Second) // the third failure
		equal(t, "restarts", r.first("web").Restarts, 3)
		if last := r.first("web").Last; !strings.HasPrefix(last.Message, "Liveness probe failed: command ended with exit code 2") || last.Exit != 143 {
			t.Errorf("ended as %+v", last)
		}
	})
}

func TestACheckWithoutAnAnswerInTimeHasFailed(t *testing.T) {
	bubble(t, func(r *rig) {
		w := pod("web", "serve")
		w.Containers[0].Startup = &api.HealthCheck{HealthAction: api.HealthAction{Exec: []string{"sleep"}}, PeriodSeconds: 5, TimeoutSeconds: 2, Successes: 1, Failures: 1}
		r.want(w)
		r.after(3 * time.Second)
		equal(t, "restarts", r.first("web").Restarts, 1)
		equal(t, "message", r.first("web").Last.Message, "Startup probe failed: no answer within 2 s")
	})
}

func TestHTTPAndTCPAreChecked(t *testing.T) {
	var good atomic.Bool
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Host != "app.test" || q.Header.Get("X-Probe") != "1" || q.URL.String() != "/healthz?full=1" {
			t.Errorf("asked %s of %s with %v", q.URL, q.Host, q.Header)
		}
		if !good.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	port, err := strconv.Atoi(server.URL[strings.LastIndexByte(server.URL, ':')+1:])
	if err != nil {
		t.Fatal(err)
	}
	get := api.HealthAction{HTTP: &api.HTTPGet{Scheme: "https", Port: int32(port), Path: "/healthz?full=1", Headers: []string{"Host: app.test", "X-Probe: 1"}}}
	if err := workload.Ask(t.Context(), get); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a bad answer: %v", err)
	}
	good.Store(true)
	if err := workload.Ask(t.Context(), get); err != nil {
		t.Errorf("a good answer: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dial := api.HealthAction{TCP: &api.TCPProbe{Port: int32(ln.Addr().(*net.TCPAddr).Port)}}
	if err := workload.Ask(t.Context(), dial); err != nil {
		t.Errorf("a port that listens: %v", err)
	}
	ln.Close()
	if err := workload.Ask(t.Context(), dial); err == nil {
		t.Error("a port that does not listen is good")
	}
}

func TestVariablesExpandAsInAPodAndSealedOnesComeLast(t *testing.T) {
	bubble(t, func(r *rig) {
		r.stop()
		r.change = func(cfg *workload.Config) {
			cfg.Unseal = func(*api.Workload) (*api.Secrets, error) {
				return &api.Secrets{Env: map[string][]api.EnvVar{"c0": {{Name: "TOKEN", Value: "s3cr3t$(A)"}}}, Files: map[string][]api.File{"f": {{Path: "key", Mode: 0o400, Data: []byte("k")}}}}, nil
			}
		}
		r.start()
		w := pod("web", "serve")
		c := &w.Containers[0]
		c.Command = []string{"run", "$(A)-$(B)", "$$(A)", "$(NONE)", "$", "$x", "$(A", "a$$b"}
		c.Args = []string{"$(TOKEN)"}
		c.Env = []api.EnvVar{{Name: "A", Value: "1"}, {Name: "TOKEN", Value: "plain"}, {Name: "B", Value: "$(A)2"}, {Name: "A", Value: "3"}, {Name: "URL", Value: "x/$(TOKEN)"}}
		w.Sealed = &api.Sealed{ID: "i", Key: "k", Data: []byte("d")}
		w.Volumes = []api.Volume{{Name: "f", Files: &api.FilesVolume{Files: []api.File{{Path: "plain", Mode: 0o644, Data: []byte("p")}}}}}
		c.Mounts = []api.Mount{{Volume: "f", Path: "/etc/f"}}
		r.want(w)
		got := r.fake.Spec("c0")
		equalLists(t, "command", got.Command, "run", "3-12", "$(A)", "$(NONE)", "$", "$x", "$(A", "a$b")
		equalLists(t, "args", got.Args, "s3cr3t$(A)")
		equalLists(t, "environment", got.Env, "A=3", "B=12", "TOKEN=s3cr3t$(A)", "URL=x/s3cr3t$(A)")
		if m := got.Mounts[0]; !m.ReadOnly || m.Source != filepath.Join(r.dir, "memory/web/volumes/f") {
			t.Errorf("mount %+v; wanted one in memory that cannot be written", m)
		}
		for name, mode := range map[string]os.FileMode{"key": 0o400, "plain": 0o644} {
			if info, err := os.Stat(filepath.Join(got.Mounts[0].Source, name)); err != nil || info.Mode() != mode {
				t.Errorf("file %s: %v, %v; wanted mode %s", name, info, err, mode)
			}
		}
		if raw, err := os.ReadFile(filepath.Join(r.dir, "state.db")); err != nil || strings.Contains(string(raw), "s3cr3t") || strings.Contains(r.log.String(), "s3cr3t") {
			t.Errorf("a secret is on flash or in the log, %v", err)
		}
	})
}

func TestVolumesStayWhereTheyBelong(t *testing.T) {
	bubble(t, func(r *rig) {
		given, other := filepath.Join(r.dir, "given"), filepath.Join(r.dir, "other")
		for _, dir := range []string{given, other} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(other, filepath.Join(given, "out")); err != nil {
			t.Fatal(err)
		}
		r.stop()
		r.change = func(cfg *workload.Config) { cfg.HostPaths = []string{given} }
		r.start()
		for name, test := range map[string]struct {
			host api.HostVolume
			sub  string
			want string // the source, or the beginning of a reason
		}{
			"created": {api.HostVolume{Path: given + "/a/b", Type: "DirectoryOrCreate"}, "", given + "/a/b"},
			"file":    {api.HostVolume{Path: given + "/f", Type: "FileOrCreate"}, "", given + "/f"},
			"itself":  {api.HostVolume{Path: given}, "sub/dir", given + "/sub/dir"},
			"link":    {api.HostVolume{Path: given + "/out"}, "", "CreateContainerConfigError"},
			"beneath": {api.HostVolume{Path: given + "/out/new", Type: "DirectoryOrCreate"}, "", "CreateContainerConfigError"},
			"sublink": {api.HostVolume{Path: given}, "out", "CreateContainerConfigError"},
			"missing": {api.HostVolume{Path: given + "/none"}, "", "CreateContainerConfigError"},
			"kind":    {api.HostVolume{Path: given, Type: "File"}, "", "CreateContainerConfigError"},
			"outside": {api.HostVolume{Path: given + "/../other"}, "", "HostPathNotAllowed"},
		} {
			w := pod(name, "serve")
			w.Volumes = []api.Volume{{Name: "v", Host: &test.host}}
			w.Containers[0].Mounts = []api.Mount{{Volume: "v", Path: "/v", SubPath: test.sub}}
			w.Containers[0].Name = name
			r.want(w)
			got := r.status(name).Reason
			if s := r.status(name); len(s.Containers) > 0 && s.Containers[0].State == api.ContainerRunning {
				got = r.fake.Spec(name).Mounts[0].Source
			} else if len(s.Containers) > 0 {
				got = s.Containers[0].Reason
			}
			equal(t, name, got, test.want)
		}
		if list, err := os.ReadDir(other); err != nil || len(list) > 0 {
			t.Errorf("made outside of what is given: %v, %v", list, err)
		}
	})
}

func TestWhatTheNodeDoesNotGiveIsRefusedWithItsReason(t *testing.T) {
	node := workload.Node{Runtimes: []string{"process", "wasm"}, HostPaths: []string{"/dev/ttyS0", "/srv"}}
	for reason, change := range map[string]func(w *api.Workload){
		"":                   func(w *api.Workload) { w.Volumes = []api.Volume{{Name: "v", Host: &api.HostVolume{Path: "/srv/a"}}} },
		"NoRuntime":          func(w *api.Workload) { w.Runtime = "containerd" },
		"HostPathNotAllowed": func(w *api.Workload) { w.Volumes = []api.Volume{{Name: "v", Host: &api.HostVolume{Path: "/srvx"}}} },
		"UnknownVolumeType": func(w *api.Workload) {
			w.Volumes = []api.Volume{{Name: "v", Host: &api.HostVolume{Path: "/srv", Type: "Tape"}}}
		},
		"PrivilegedNotAllowed": func(w *api.Workload) { w.Containers[0].Security = &api.Confinement{Privileged: true} },
		"UnknownProtocol":      func(w *api.Workload) { w.Containers[0].Ports = []api.Port{{Number: 1, Protocol: "SPX"}} },
		"UnknownScheme": func(w *api.Workload) {
			w.Containers[0].PreStop = &api.HealthAction{HTTP: &api.HTTPGet{Scheme: "ftp", Port: 1}}
		},
		"UnknownHeader": func(w *api.Workload) {
			w.Containers[0].PostStart = &api.HealthAction{HTTP: &api.HTTPGet{Port: 1, Headers: []string{"A: b\r\nC: d"}}}
		},
	} {
		w := pod("web", "serve")
		change(&w)
		runtime, why := workload.Admit(&w, node)
		switch {
		case reason == "" && (why != nil || runtime != "process"):
			t.Errorf("refused: %+v; wanted it to run by process, not %q", why, runtime)
		case reason != "" && (why == nil || why.Reason != reason || why.Message == ""):
			t.Errorf("%s: %+v", reason, why)
		}
	}
	w := pod("web", "serve")
	if _, why := workload.Admit(&w, workload.Node{Runtimes: node.Runtimes, Off: true}); why == nil || why.Reason != "Disabled" {
		t.Errorf("switched off: %+v", why)
	}
}

func TestLogsAreShownByRunTailTimeAndStream(t *testing.T) {
	bubble(t, func(r *rig) {
		w := pod("web", "echo a complain b echo c exit 1")
		r.want(w)
		r.after(11 * time.Second) // a third run, in backoff
		show := func(q workload.LogQuery) string {
			t.Helper()
			var out []string
			q.Workload = "web"
			if err := r.engine.Log(r.t.Context(), q, func(channel uint8, line []byte) error {
				out = append(out, fmt.Sprint(channel)+string(line))
				return nil
			}); err != nil {
				return err.Error()
			}
			return strings.Join(out, "")
		}
		equal(t, "all", show(workload.LogQuery{Tail: -1}), "1a\n2b\n1c\n")
		equal(t, "tail", show(workload.LogQuery{Tail: 2}), "2b\n1c\n")
		equal(t, "no tail", show(workload.LogQuery{Tail: 0}), "")
		equal(t, "previous", show(workload.LogQuery{Tail: -1, Previous: true, Container: "c0"}), "1a\n2b\n1c\n")
		equal(t, "limit", show(workload.LogQuery{Tail: -1, Limit: 3}), "1a\n2b")
		equal(t, "since now", show(workload.LogQuery{Tail: -1, Since: time.Now()}), "")
		equal(t, "followed to its end", show(workload.LogQuery{Tail: 1, Follow: true}), "1c\n")
		if got := show(workload.LogQuery{Tail: 1, Timestamps: true}); !strings.HasPrefix(got, "1"+time.Now().UTC().Format("2006-01-02T")) {
			t.Errorf("with times: %q", got)
		}
		equal(t, "another container", show(workload.LogQuery{Container: "x"}), `workload web has no container "x"`)
		entries, err := os.ReadDir(filepath.Join(r.dir, "disk/web/logs/c0"))
		if err != nil || len(entries) != 2 {
			t.Errorf("logs kept: %v, %v; wanted those of the last two runs", entries, err)
		}
	})
}

func TestATailHasNoMoreLinesThanItsNumberWhateverIsWrittenMeanwhile(t *testing.T) {
	bubble(t, func(r *rig) {
		r.want(pod("web", "echo a echo b echo c"))
		path := filepath.Join(r.dir, "disk/web/logs/c0/1.log")
		var got []string
		err := r.engine.Log(r.t.Context(), workload.LogQuery{Workload: "web", Tail: 2}, func(_ uint8, line []byte) error {
			got = append(got, strings.TrimSpace(string(line)))
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = fmt.Fprintf(f, "%s stdout F later\n", time.Now().UTC().Format(time.RFC3339Nano))
			return err
		})
		if err != nil || !slices.Equal(got, []string{"b", "c"}) {
			t.Errorf("%q, %v; wanted the two that were last", got, err)
		}
	})
}

func TestFollowingALogSurvivesItsRotationAndEndsWithItsContainer(t *testing.T) {
	bubble(t, func(r *rig) {
		r.want(pod("web", "echo 0"))
		path := filepath.Join(r.dir, "disk/web/logs/c0/1.log")
		var got []string
		done := make(chan error, 1)
		go func() {
			done <- r.engine.Log(r.t.Context(), workload.LogQuery{Workload: "web", Tail: -1, Follow: true}, func(_ uint8, line []byte) error {
				got = append(got, strings.TrimSpace(string(line)))
				return nil
			})
		}()
		var want []string
		write := func(n int) {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(f, "%s stdout F %d\n", time.Now().UTC().Format(time.RFC3339Nano), n)
			f.Close()
		}
		want = append(want, "0")
		for n := 1; n < 100; n++ {
			write(n)
			want = append(want, strconv.Itoa(n))
			if n%7 == 0 {
				if err := os.Rename(path, path+".1"); err != nil {
					t.Fatal(err)
				}
			}
			if n%3 == 0 {
				r.after(300 * time.Millisecond)
			}
		}
		r.after(time.Second)
		r.fake.End("web_c0_1", 0)
		r.after(time.Second)
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("following goes on after the end of the container")
		}
		if !slices.Equal(got, want) {
			t.Errorf("followed %q; wanted %q", got, want)
		}
	})
}

func TestImagesThatNothingNeedsAreRemovedInTime(t *testing.T) {
	bubble(t, func(r *rig) {
		r.fake.Offer("registry.test/other:1", "sha256:"+strings.Repeat("b", 64))
		other := pod("other", "serve")
		other.Containers[0].Image = "registry.test/other:1"
		r.want(pod("web", "serve"), other)
		r.want(pod("web", "serve"))
		r.after(2 * time.Hour)
		if _, err := r.fake.Pull(r.t.Context(), image, api.PullNever, nil); err != nil {
			t.Errorf("image in use: %v", err)
		}
		if _, err := r.fake.Pull(r.t.Context(), "registry.test/other:1", api.PullNever, nil); !errors.Is(err, workload.ErrNoImage) {
			t.Errorf("unused image: %v; wanted it gone", err)
		}
	})
}
