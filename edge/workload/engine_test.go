package workload_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/workload"
	"github.com/skerry-edge/skerry/edge/workload/conformance"
)

func TestAWorkloadRuns(t *testing.T) {
	bubble(t, func(r *rig) {
		r.want(pod("web", "serve", "serve"))
		s := r.status("web")
		equal(t, "state", s.State, api.WorkloadRunning)
		equal(t, "ready", s.Ready, true)
		equal(t, "runtime", s.Runtime, "process")
		w := pod("web", "serve", "serve")
		equal(t, "hash", s.Hash, w.Hash())
		c := s.Containers[1]
		equal(t, "container", c.ID, "web_c1_1")
		equal(t, "container's state", c.State, api.ContainerRunning)
		equal(t, "digest", strings.HasPrefix(c.ImageDigest, "sha256:"), true)
		equalLists(t, "running", r.fake.Running(), "web_c0_1", "web_c1_1")
	})
}

func TestNoUnchangedWorkloadIsStartedAgainByARestartOfTheAgent(t *testing.T) {
	bubble(t, func(r *rig) {
		r.want(pod("web", "serve"), pod("job", "exit 0"))
		r.fake.End("web_c0_1", 1)
		synctest.Wait()
		before := r.fake.Starts()
		for range 3 {
			r.stop()
			equalLists(t, "running without an agent", r.fake.Running(), "web_c0_2")
			r.start()
			r.want(pod("web", "serve"), pod("job", "exit 0"))
		}
		if now := r.fake.Starts(); now["web_c0_2"] != 1 || now["web_c0_3"] != 0 || !maps.Equal(before, map[string]int{"web_c0_1": 1, "web_c0_2": 1, "job_c0_1": 1}) && before["job_c0_2"] == 0 {
			t.Errorf("starts %v, before %v; wanted no other", now, before)
		}
		equal(t, "restarts", r.first("web").Restarts, 1)
		equal(t, "last exit", r.first("web").Last.Exit, 1)
	})
}

func TestUntilSomethingIsWantedNothingIsTouched(t *testing.T) {
	bubble(t, func(r *rig) {
		r.want(pod("web", "serve"))
		r.stop()
		r.start()
		r.after(time.Hour)
		equalLists(t, "running", r.fake.Running(), "web_c0_1")
		r.want()
		equalLists(t, "running", r.fake.Running())
	})
}

func TestAWorkloadThatIsNoLongerWantedIsStoppedWithItsGraceAndItsFilesGo(t *testing.T) {
	bubble(t, func(r *rig) {
		w := pod("web", "echo hello stubborn")
		w.Volumes = []api.Volume{{Name: "v", Empty: &api.EmptyVolume{}}, {Name: "f", Files: &api.FilesVolume{Files: []api.File{{Path: "a/b", Mode: 0o640, Data: []byte("x")}}}}}
		w.Containers[0].Mounts = []api.Mount{{Volume: "v", Path: "/v"}, {Volume: "f", Path: "/f"}}
		r.want(w)
		if raw, err := os.ReadFile(filepath.Join(r.dir, "memory/web/volumes/f/a/b")); err != nil || string(raw) != "x" {
			t.Errorf("file of a volume: %q, %v", raw, err)
		}
		r.want()
		r.after(29 * time.Second)
		equalLists(t, "running within the grace", r.fake.Running(), "web_c0_1")
		r.after(2 * time.Second)
		equalLists(t, "containers", r.fake.Has())
		for _, dir := range []string{"disk/web", "memory/web"} {
			if _, err := os.Stat(filepath.Join(r.dir, dir)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %v; wanted it gone", dir, err)
			}
		}
		r.want(w)
		equalLists(t, "running", r.fake.Running(), "web_c0_1")
	})
}

func TestAnotherFormUnderTheSameNameReplacesWhatRuns(t *testing.T) {
	bubble(t, func(r *rig) {
		r.want(pod("web", "serve"))
		other := pod("web", "serve other")
		other.Hostname = "other"
		r.want(other)
		equal(t, "state", r.status("web").State, api.WorkloadRunning)
		equal(t, "starts", r.fake.Starts()["web_c0_1"], 2)
		equal(t, "args", strings.Join(r.fake.Spec("c0").Args, " "), "serve other")
	})
}

// As a kubelet does it when an image is patched.
func TestAContainerThatDiffersIsBegunAnewAndTheOthersRunOn(t *testing.T) {
	for _, policy := range []api.RestartPolicy{api.RestartAlways, api.RestartNever} {
		bubble(t, func(r *rig) {
			w := pod("web", "serve", "serve")
			w.Restart = policy
			w.Init = []api.Container{{Name: "first", Image: image, Args: []string{"exit 0"}}}
			w.Volumes = []api.Volume{{Name: "v", Empty: &api.EmptyVolume{}}}
			w.Containers[0].Mounts = []api.Mount{{Volume: "v", Path: "/v"}}
			w.Containers[1].Readiness = &api.HealthCheck{HealthAction: api.HealthAction{Exec: []string{"ok"}}, PeriodSeconds: 60, TimeoutSeconds: 1, Successes: 1, Failures: 3}
			r.want(w)
			r.after(time.Minute)
			written := filepath.Join(r.dir, "disk/web/volumes/v/written")
			if err := os.WriteFile(written, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			patched := w
			patched.Containers = slices.Clone(w.Containers)
			patched.Containers[0].Image, patched.LimitSeconds = "new:1", 3600
			r.fake.Offer("new:1", "sha256:new")
			r.want(patched)
			s := r.status("web")
			equal(t, "hash", s.Hash, patched.Hash())
			equal(t, "ready", s.Ready, true)
			equalLists(t, "running", r.fake.Running(), "web_c0_2", "web_c1_1")
			c := s.Containers[1]
			equal(t, "image", c.ImageDigest, "sha256:new")
			equal(t, "restarts", c.Restarts, 1)
			equal(t, "last exit", c.Last.Exit, 143)
			equal(t, "restarts of the other", s.Containers[2].Restarts, 0)
			if _, err := os.Stat(written); err != nil {
				t.Errorf("the volume was emptied: %v", err)
			}
			if policy == api.RestartAlways { // no failure: the next one does not wait
				r.fake.End("web_c0_2", 1)
				synctest.Wait()
				equalLists(t, "running after a failure", r.fake.Running(), "web_c0_3", "web_c1_1")
			}
			running := r.fake.Running()
			r.stop()
			r.start()
			r.want(patched)
			r.forget(nil)
			r.want(patched)
			equalLists(t, "running in the next lives", r.fake.Running(), running...)
			equal(t, "starts of what came first", r.fake.Starts()["web_first_1"]+r.fake.Starts()["web_first_2"], 1)
		})
	}
}

func TestWhatIsSealedAnewIsTakenWithoutANewStart(t *testing.T) {
	bubble(t, func(r *rig) {
		r.stop()
		var files []api.File
		r.change = func(cfg *workload.Config) {
			cfg.Unseal = func(*api.Workload) (*api.Secrets, error) {
				return &api.Secrets{Files: map[string][]api.File{"f": files}}, nil
			}
		}
		r.start()
		w := pod("web", "serve")
		w.Volumes = []api.Volume{{Name: "f", Files: &api.FilesVolume{}}}
		w.Containers[0].Mounts = []api.Mount{{Volume: "f", Path: "/f"}}
		w.Sealed = &api.Sealed{ID: "a", Key: "k"}
		files = []api.File{{Path: "a", Mode: 0o644, Data: []byte("old")}, {Path: "b", Mode: 0o644}}
		r.want(w)
		w.Sealed = &api.Sealed{ID: "b", Key: "k"}
		files = []api.File{{Path: "a", Mode: 0o644, Data: []byte("new")}}
		r.want(w)
		in := filepath.Join(r.dir, "memory/web/volumes/f")
		if raw, err := os.ReadFile(filepath.Join(in, "a")); err != nil || string(raw) != "new" {
			t.Errorf("the file holds %q, %v; wanted what is new", raw, err)
		}
		if _, err := os.Stat(filepath.Join(in, "b")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a file that is no more: %v", err)
		}
		equal(t, "hash", r.status("web").Hash, w.Hash())
		r.forget(nil)
		r.want(w)
		equalLists(t, "running", r.fake.Running(), "web_c0_1")
		equal(t, "starts", r.fake.Starts()["web_c0_1"], 1)
	})
}

// An agent that did not know frames has written neither frame nor form.
func TestAContainerThatAnEarlierAgentBeganRunsOn(t *testing.T) {
	was := pod("web", "serve")
	mem := workload.Memory{Hash: was.Hash(), Runtime: "process", Boot: "b1", Containers: map[string]*workload.Past{"c0": {Run: 1, Begun: true}}}
	seen := []workload.Seen{{Runtime: "process", Observed: workload.Observed{ID: "web_c0_1", Running: true}}}
	v := workload.Decide(workload.Input{Boot: "b1", Want: &was, Hash: was.Hash(), Memory: mem, Seen: seen})
	if len(v.Actions) > 0 || v.Memory.Frame == "" || v.Memory.Containers["c0"].Form == "" {
		t.Errorf("%+v", v)
	}
	now := pod("web", "serve other")
	v = workload.Decide(workload.Input{Boot: "b1", Want: &now, Hash: now.Hash(), Memory: v.Memory, Seen: seen})
	if len(v.Actions) != 1 || v.Actions[0].Deed != workload.Stop || v.Memory.Hash != now.Hash() {
		t.Errorf("%+v", v)
	}
	v = workload.Decide(workload.Input{Boot: "b1", Want: &now, Hash: now.Hash(), Memory: mem, Seen: seen})
	if len(v.Actions) != 1 || v.Status.Reason != "Replacing" {
		t.Errorf("what was taken on is not known, and not replaced: %+v", v)
	}
}

func TestDrainingStopsWithGraceAndIsToldUntilItIsGone(t *testing.T) {
	bubble(t, func(r *rig) {
		w := pod("web", "stubborn")
		r.want(w)
		w.Draining = true
		r.want(w)
		s := r.status("web")
		equal(t, "state", s.State, api.WorkloadRunning)
		equal(t, "ready", s.Ready, false)
		r.after(5 * time.Second)
		w.GraceSeconds = 2 // as a deletion by force
		r.want(w)
		r.after(3 * time.Second)
		s = r.status("web")
		equal(t, "state", s.State, api.WorkloadFailed)
		equal(t, "exit", s.Containers[0].End.Exit, 137)
		r.after(time.Hour)
		equal(t, "starts", r.fake.Starts()["web_c0_1"], 1)
		r.want()
		equal(t, "statuses", len(r.engine.Status()), 0)
	})
}

func TestACrashLoopWaitsAsAKubeletDoes(t *testing.T) {
	bubble(t, func(r *rig) {
		began := time.Now()
		r.want(pod("web", "exit 3"))
		c := r.first("web")
		equal(t, "state", c.State, api.ContainerWaiting)
		equal(t, "reason", c.Reason, "CrashLoopBackOff")
		equal(t, "message", c.Message, "back-off 10s restarting failed container=c0 pod=web")
		equal(t, "restarts", c.Restarts, 1)
		equal(t, "last exit", c.Last.Exit, 3)
		equal(t, "last reason", c.Last.Reason, "Error")
		equal(t, "workload", r.status("web").State, api.WorkloadRunning)
		r.after(100 * time.Millisecond)
		for i, wait := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
			r.after(wait*time.Second - 200*time.Millisecond)
			equal(t, "restarts before the wait is over", r.first("web").Restarts, int32(i+1))
			r.after(200 * time.Millisecond)
			equal(t, "restarts after the wait", r.first("web").Restarts, int32(i+2))
		}
		equal(t, "last message", r.first("web").Message, "back-off 5m0s restarting failed container=c0 pod=web")
		if took := time.Since(began); took < 900*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestABackoffIsForgottenAfterTenMinutesOfRunning(t *testing.T) {
	bubble(t, func(r *rig) {
		r.want(pod("web", "serve"))
		r.fake.End("web_c0_1", 1)
		synctest.Wait()
		r.fake.End("web_c0_2", 1)
		synctest.Wait()
		equal(t, "reason", r.first("web").Reason, "CrashLoopBackOff")
		r.after(11 * time.Second)
		equal(t, "restarts", r.first("web").Restarts, 2)
		r.after(11 * time.Minute)
		r.fake.End("web_c0_3", 1)
		synctest.Wait()
		equal(t, "restarts", r.first("web").Restarts, 3) // at once
	})
}

func TestARestartPolicyIsKept(t *testing.T) {
	for policy, want := range map[api.RestartPolicy]map[string]api.WorkloadState{
		api.RestartNever:     {"exit 0": api.WorkloadSucceeded, "exit 2": api.WorkloadFailed},
		api.RestartOnFailure: {"exit 0": api.WorkloadSucceeded, "exit 2": api.WorkloadRunning},
		api.RestartAlways:    {"exit 0": api.WorkloadRunning, "exit 2": api.WorkloadRunning},
	} {
		for words, state := range want {
			t.Run(string(policy)+" "+words, func(t *testing.T) {
				bubble(t, func(r *rig) {
					w := pod("job", words)
					w.Restart = policy
					r.want(w)
					r.after(time.Minute)
					equal(t, "state", r.status("job").State, state)
					equal(t, "started again", r.first("job").Restarts > 0, state == api.WorkloadRunning)
				})
			})
		}
	}
}

func TestContainersThatComeFirstRunOneAfterTheOther(t *testing.T) {
	bubble(t, func(r *rig) {
		w := pod("web", "serve")
		w.Init = []api.Container{{Name: "i0", Image: image, Args: []string{"wait"}}, {Name: "i1", Image: image, Args: []string{"wait"}}}
		r.want(w)
		equalLists(t, "running", r.fake.Running(), "web_i0_1")
		s := r.status("web")
		equal(t, "state", s.State, api.WorkloadPending)
		equal(t, "reason", s.Containers[2].Reason, "PodInitializing")
		r.fake.End("web_i0_1", 1)
		synctest.Wait()
		equalLists(t, "running", r.fake.Running(), "web_i0_2")
		r.fake.End("web_i0_2", 0)
		synctest.Wait()
		equalLists(t, "running", r.fake.Running(), "web_i1_1")
		equal(t, "first is done", r.first("web").Reason, "Completed")
		r.fake.End("web_i1_1", 0)
		synctest.Wait()
		equalLists(t, "running", r.fake.Running(), "web_c0_1")
		equal(t, "state", r.status("web").State, api.WorkloadRunning)
	})
}

func TestAFailureOfWhatComesFirstIsThatOfTheWorkloadWhenNothingIsStartedAgain(t *testing.T) {
	bubble(t, func(r *rig) {
		w := pod("job", "serve")
		w.Restart = api.RestartNever
		w.Init = []api.Container{{Name: "i0", Image: image, Args: []string{"exit 4"}}}
		r.want(w)
		equal(t, "state", r.status("job").State, api.WorkloadFailed)
		equal(t, "starts of the other", r.fake.Starts()["job_c0_1"], 0)
	})
}

func TestARebootGoesOnCountingAndRunsAgainWhatComesFirst(t *testing.T) {
	bubble(t, func(r *rig) {
		w := pod("web", "serve")
		w.Init = []api.Container{{Name: "i0", Image: image, Args: []string{"exit 0"}}}
		done := pod("job", "exit 0")
		done.Restart = api.RestartNever
		r.want(w, done)
		r.fake.End("web_c0_1", 1)
		synctest.Wait()
		r.stop()
		r.fake.Reboot()
		r.boot = "b2"
		r.start()
		r.want(w, done)
		equalLists(t, "running", r.fake.Running(), "web_c0_3")
		c := r.status("web").Containers[1]
		equal(t, "restarts", c.Restarts, 2)
		equal(t, "reason", c.Last.Reason, "ContainerStatusUnknown")
		equal(t, "runs of what comes first", r.fake.Starts()["web_i0_2"], 1)
		equal(t, "job", r.status("job").State, api.WorkloadSucceeded)
		equal(t, "starts of the job", r.fake.Starts()["job_c0_1"], 1)
	})
}

func TestAContainerThatIsLostIsToldAndRunsAgain(t *testing.T) {
	bubble(t, func(r *rig) {
		r.want(pod("web", "serve"))
		r.fake.Lose()
		synctest.Wait()
		c := r.first("web")
		equal(t, "reason", c.Last.Reason, "ContainerStatusUnknown")
		equalLists(t, "running", r.fake.Running(), "web_c0_2")
	})
}

func TestContainersThatNobodyRemembersAreStopped(t *testing.T) {
	bubble(t, func(r *rig) {
		if err := r.fake.Start(r.t.Context(), workload.Container{ID: "old_c0_7", Workload: "old", Name: "c0"}); err != nil {
			t.Fatal(err)
		}
		r.want(pod("web", "serve"))
		equalLists(t, "running", r.fake.Running(), "web_c0_1")
		equalLists(t, "containers", r.fake.Has(), "web_c0_1")
	})
}

// TestWhatRunsAsWantedGoesOnWhenTheNodeHasForgottenIt loses all that the node remembers, as after damage to its database.
func TestWhatRunsAsWantedGoesOnWhenTheNodeHasForgottenIt(t *testing.T) {
	bubble(t, func(r *rig) {
		w := pod("web", "serve")
		w.Init = []api.Container{{Name: "first", Image: w.Containers[0].Image, Args: []string{"exit 0"}}}
		r.want(w)
		r.fake.End("web_c0_1", 1)
		r.after(time.Minute)
		equalLists(t, "running", r.fake.Running(), "web_c0_2")
		before := r.fake.Starts()
		r.forget(nil)
		r.want(w)
		r.after(time.Minute)
		if now := r.fake.Starts(); !maps.Equal(before, now) {
			t.Errorf("starts %v, before %v; wanted no other", now, before)
		}
		s := r.status("web")
		equal(t, "state", s.State, api.WorkloadRunning)
		equal(t, "ready", s.Ready, true)
		for _, c := range s.Containers {
			if c.Name == "c0" {
				equal(t, "container", c.ID, "web_c0_2")
				equal(t, "restarts", c.Restarts, 1)
			}
		}
		r.fake.End("web_c0_2", 1)
		r.after(time.Minute)
		equalLists(t, "running after another end", r.fake.Running(), "web_c0_3")

		two := pod("two", "serve")
		two.Init = []api.Container{{Name: "first", Image: image, Args: []string{"wait"}}, {Name: "second", Image: image, Args: []string{"exit 0"}}}
		r.want(w, two)
		r.after(time.Minute)
		r.forget(nil)
		r.want(w, two)
		r.fake.End("two_first_1", 0)
		r.after(time.Minute)
		if now := r.fake.Starts(); now["two_first_1"] != 1 || now["two_second_1"] != 1 {
			t.Errorf("starts %v; wanted what comes second to be begun, although it was forgotten that it had not", now)
		}

		r.forget(nil)
		r.want(pod("web", "serve other"))
		r.after(time.Minute)
		if now := r.fake.Starts(); now["web_c0_1"] != 2 {
			t.Errorf("starts %v; wanted another form to be begun anew", now)
		}
	})
}

func TestWhatComesFirstRunsAgainAfterARebootThoughTheNodeHasForgottenIt(t *testing.T) {
	bubble(t, func(r *rig) {
		w := pod("web", "serve")
		w.Init = []api.Container{{Name: "first", Image: image, Args: []string{"exit 0"}}}
		r.want(w)
		r.leaveLog("web", "first", 1)
		r.leaveLog("web", "c0", 1)
		r.forget(func() {
			r.fake.Reboot()
			r.boot = "another"
		})
		r.want(w)
		r.after(time.Minute)
		if now := r.fake.Starts(); now["web_first_1"]+now["web_first_2"] != 2 || now["web_c0_2"] != 1 {
			t.Errorf("starts %v; wanted what comes first to be begun again, and then the other", now)
		}
	})
}

func TestWhatIsToRunOnceRunsOnceThoughTheNodeHasForgottenIt(t *testing.T) {
	bubble(t, func(r *rig) {
		half, whole := pod("half", "exit 0", "serve"), pod("whole", "exit 0")
		half.Restart, whole.Restart = api.RestartNever, api.RestartNever
		r.want(half, whole)
		r.after(time.Minute)
		r.leaveLog("half", "c0", 1)
		r.leaveLog("half", "c1", 1)
		r.leaveLog("whole", "c0", 1)
		before := r.fake.Starts()
		r.forget(nil)
		r.want(half, whole)
		r.after(time.Minute)
		if now := r.fake.Starts(); !maps.Equal(before, now) {
			t.Errorf("starts %v, before %v; wanted no other", now, before)
		}
		equalLists(t, "running", r.fake.Running(), "half_c1_1")
		s := r.status("whole")
		equal(t, "state", s.State, api.WorkloadFailed)
		equal(t, "reason", s.Containers[0].End.Reason, "ContainerStatusUnknown")
	})
}

func TestARuntimeThatHangsHoldsUpNobodyElse(t *testing.T) {
	bubble(t, func(r *rig) {
		other := conformance.NewFake("containerd", image)
		r.stop()
		r.more = []workload.Runtime{other}
		release := other.Hang("List")
		r.start()
		hung := pod("hung", "serve")
		hung.Runtime = "containerd"
		r.want(hung, pod("web", "serve"))
		equal(t, "state", r.status("web").State, api.WorkloadRunning)
		equal(t, "state of the hung one", r.status("hung").State, api.WorkloadPending)
		release()
		synctest.Wait()
		r.after(10 * time.Second)
		equal(t, "state afterwards", r.status("hung").State, api.WorkloadRunning)
		for _, call := range []string{"Start c0", "Pull", "Stop"} {
			release := r.fake.Hang(call)
			slow, quick := pod("slow", "serve"), pod("quick", "serve")
			quick.Runtime = "containerd"
			r.want(slow, quick)
			equal(t, "state beside a hung "+call, r.status("quick").State, api.WorkloadRunning)
			r.want()
			release()
			synctest.Wait()
			equalLists(t, "running after a hung "+call, r.fake.Running())
		}
	})
}
