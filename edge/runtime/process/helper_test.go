package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/runtime/bundle"
	"github.com/skerry-edge/skerry/edge/runtime/cgroup"
	"github.com/skerry-edge/skerry/edge/runtime/launch"
	"github.com/skerry-edge/skerry/edge/runtime/shim"
	"github.com/skerry-edge/skerry/edge/workload"
)

// TestMain lets the test binary be the supervisor, as skerry-edge is, and the agent that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "shim" {
		os.Exit(shim.Main(context.Background(), os.Args[2:]))
	}
	if dir := os.Getenv("PROCESS_AGENT"); dir != "" {
		if err := agentThatStarts(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := os.Setenv(cgroupVariable, fmt.Sprintf("skerry-test-process-%d", os.Getpid())); err != nil {
		panic(err)
	}
	code := m.Run()
	for _, below := range []string{"/*", ""} {
		left, _ := filepath.Glob("/sys/fs/cgroup/*/" + testCgroup() + below) // the pattern is good
		left = slices.DeleteFunc(left, func(name string) bool {
			info, err := os.Stat(name)
			return err != nil || !info.IsDir()
		})
		if err := cgroup.Remove(left); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// cgroupVariable tells the agents that tests start which control group is this run's.
const cgroupVariable = "PROCESS_CGROUP"

func testCgroup() string { return os.Getenv(cgroupVariable) }

// payload builds the program that containers run, once; PROCESS_PAYLOAD is one that was built before.
var payload = sync.OnceValues(func() (string, error) {
	if file := os.Getenv("PROCESS_PAYLOAD"); file != "" {
		return file, nil
	}
	dir, err := os.MkdirTemp("", "skerry-payload")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "payload")
	cmd := exec.Command("go", "build", "-o", file, "./testdata/payload")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build payload: %w\n%s", err, out)
	}
	return file, nil
})

// testImages has one image: the payload, and whatever a test puts beside it.
type testImages struct {
	lower  []string
	config launch.ImageConfig
}

func (i *testImages) Pull(context.Context, string, api.PullPolicy, func(done, total int64)) (string, error) {
	return "sha256:test", nil
}
func (i *testImages) Collect(context.Context, []string) (int64, error) { return 0, nil }
func (i *testImages) Root(digest string) (launch.Image, error) {
	if digest != "sha256:test" {
		return launch.Image{}, workload.ErrNoImage
	}
	return launch.Image{Lower: i.lower, Config: i.config}, nil
}

// rig is a runtime in a place of its own.
type rig struct {
	t      *testing.T
	dir    string
	images *testImages
	*Runtime
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if err := Missing(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return newRigIn(t, t.TempDir())
}

func newRigIn(t *testing.T, dir string) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir, images: testImage(t, filepath.Join(dir, "image"))}
	r.Runtime = newRuntime(t, dir, r.images)
	t.Cleanup(func() {
		if err := r.clean(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func newRuntime(t *testing.T, dir string, images launch.Images) *Runtime {
	t.Helper()
	r, err := New(t.Context(), testConfig(dir, images))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func testConfig(dir string, images launch.Images) Config {
	return Config{Kind: bundle.KindProcess, Dir: filepath.Join(dir, "containers"), Images: images, Cgroup: "./" + testCgroup(), Processes: 64,
		Shim: []string{"/proc/self/exe", "shim"}}
}

func testImage(t *testing.T, dir string) *testImages {
	t.Helper()
	file, err := payload()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"etc", "tmp", "bin"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "payload"), string(raw), 0o755)
	put(t, filepath.Join(dir, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n", 0o644)
	put(t, filepath.Join(dir, "etc/group"), "root:x:0:\nann:x:1000:\ndialout:x:20:ann\n", 0o644)
	return &testImages{lower: []string{dir}, config: launch.ImageConfig{Entrypoint: []string{"/payload"}}}
}

func put(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// clean ends and removes all containers of the rig.
func (r *rig) clean() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all, err := r.List(ctx)
	if err != nil {
		return err
	}
	for _, o := range all {
		if err := r.Stop(ctx, o.ID, 0); err != nil {
			return err
		}
		if err := r.Remove(ctx, o.ID); err != nil {
			return err
		}
	}
	return r.Close()
}

// container is one with nothing but a command.
func (r *rig) container(name string, args ...string) workload.Container {
	return workload.Container{ID: workload.ContainerID("w", name, 0), Workload: "w", Name: name, Image: "sha256:test", Args: args,
		Log: filepath.Join(r.dir, "logs", name+".log")}
}

func (r *rig) start(c workload.Container) {
	r.t.Helper()
	if err := r.Start(r.t.Context(), c); err != nil {
		r.t.Fatalf("start %s: %v", c.ID, err)
	}
}

func (r *rig) observe(id string) (workload.Observed, bool) {
	r.t.Helper()
	all, err := r.List(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, o := range all {
		if o.ID == id {
			return o, true
		}
	}
	return workload.Observed{}, false
}

// ended waits until a container has ended.
func (r *rig) ended(id string) workload.Observed {
	r.t.Helper()
	var last workload.Observed
	r.until("end of "+id, func() bool {
		var there bool
		last, there = r.observe(id)
		return there && !last.Running
	})
	return last
}

func (r *rig) until(what string, done func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if done() {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	r.t.Fatalf("waited a minute for: %s", what)
}

// run runs a container to its end and returns its output, without what CRI puts before each line.
func (r *rig) run(c workload.Container) (workload.Observed, string) {
	r.t.Helper()
	r.start(c)
	o := r.ended(c.ID)
	return o, r.logOf(c)
}

func (r *rig) logOf(c workload.Container) string {
	r.t.Helper()
	raw, err := os.ReadFile(c.Log)
	if err != nil {
		r.t.Fatal(err)
	}
	return plainLog(r.t, raw)
}

// plainLog checks that every line is one of CRI, and takes the text.
func plainLog(t *testing.T, raw []byte) string {
	t.Helper()
	var out strings.Builder
	for line := range bytes.Lines(raw) {
		parts := strings.SplitN(strings.TrimSuffix(string(line), "\n"), " ", 4)
		if len(parts) != 4 || parts[1] != "stdout" && parts[1] != "stderr" || parts[2] != "F" && parts[2] != "P" {
			t.Fatalf("line of the log is not of CRI: %q", line)
		}
		if _, err := time.Parse(time.RFC3339Nano, parts[0]); err != nil {
			t.Fatal(err)
		}
		out.WriteString(parts[3])
		if parts[2] == "F" {
			out.WriteByte('\n')
		}
	}
	return out.String()
}

func (r *rig) says(c workload.Container, text string) {
	r.t.Helper()
	r.until(c.ID+" says "+text, func() bool {
		raw, err := os.ReadFile(c.Log)
		return err == nil && strings.Contains(string(raw), text)
	})
}

// exec runs a command inside and returns what it prints.
func (r *rig) exec(id string, argv ...string) (int, string) {
	r.t.Helper()
	var out bytes.Buffer
	exit, err := r.Exec(r.t.Context(), id, workload.Exec{Argv: argv, Streams: workload.Streams{Stdout: &out, Stderr: &out}})
	if err != nil {
		r.t.Fatalf("exec %v: %v", argv, err)
	}
	return exit, out.String()
}

// agentThatStarts is an agent that starts one container after the other until it is killed.
func agentThatStarts(dir string) error {
	r, err := New(context.Background(), testConfig(dir, &testImages{lower: []string{filepath.Join(dir, "image")},
		config: launch.ImageConfig{Entrypoint: []string{"/payload"}}}))
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		witness := fmt.Sprintf("/witness/%d", i)
		c := workload.Container{ID: workload.ContainerID("w", fmt.Sprint("c", i), 0), Workload: "w", Name: fmt.Sprint("c", i), Image: "sha256:test",
			Args: []string{"append", witness, "serve"}, Log: filepath.Join(dir, "logs", fmt.Sprint(i)),
			Mounts: []workload.Mount{{Source: filepath.Join(dir, "witness"), Target: "/witness"}}}
		fmt.Println("starting", i)
		if err := r.Start(context.Background(), c); err != nil {
			return err
		}
		fmt.Println("started", i)
	}
}

func (r *rig) begun(id string) *bundle.Begun {
	r.t.Helper()
	st, err := r.inspect(r.t.Context(), filepath.Join(r.cfg.Dir, id))
	if err != nil || st.Begun == nil {
		r.t.Fatalf("bundle of %s: %+v, %v", id, st, err)
	}
	return st.Begun
}
