//go:build !lite

package wasm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/runtime/process"
	"github.com/skerry-edge/skerry/edge/runtime/shim"
	"github.com/skerry-edge/skerry/edge/workload"
)

// TestMain lets the test binary be the supervisor, as skerry-edge is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "shim" {
		os.Exit(shim.Main(context.Background(), os.Args[2:], Run))
	}
	os.Exit(m.Run())
}

var module = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "skerry-module")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "module.wasm")
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", file, "./testdata/module")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build module: %w\n%s", err, out)
	}
	return os.ReadFile(file)
})

type images struct{ dir string }

func (i images) Pull(context.Context, string, api.PullPolicy, func(done, total int64)) (string, error) {
	return "sha256:test", nil
}
func (i images) Collect(context.Context, []string) (int64, error) { return 0, nil }
func (i images) Root(string) (process.Image, error) {
	return process.Image{Lower: []string{i.dir}}, nil
}

type rig struct {
	*testing.T
	dir string
	*process.Runtime
}

func newRig(t *testing.T, wall time.Duration) *rig {
	t.Helper()
	if err := process.Missing(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	code, err := module()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, dir: t.TempDir()}
	image := filepath.Join(r.dir, "image")
	for path, text := range map[string]string{"module.wasm": string(code), "data/file": "of the image"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(image, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(image, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r.Runtime, err = New(t.Context(), process.Config{Dir: filepath.Join(r.dir, "containers"), Images: images{image}, Wall: wall,
		Cgroup: "./skerry-test-wasm", Shim: []string{"/proc/self/exe", "shim"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.clean)
	return r
}

func (r *rig) clean() {
	ctx := context.Background()
	all, err := r.List(ctx)
	for _, o := range all {
		err = errors.Join(err, r.Stop(ctx, o.ID, 0), r.Remove(ctx, o.ID))
	}
	if err := errors.Join(err, r.Close()); err != nil {
		r.Error(err)
	}
}

func (r *rig) container(name string, args ...string) workload.Container {
	return workload.Container{ID: workload.ContainerID("w", name, 0), Workload: "w", Name: name, Image: "sha256:test", Args: args,
		Command: []string{"/module.wasm"}, Log: filepath.Join(r.dir, "logs", name+".log"), Env: []string{"COLOUR=grey"}}
}

func (r *rig) start(c workload.Container) {
	r.Helper()
	if err := r.Start(r.Context(), c); err != nil {
		r.Fatalf("start %s: %v", c.ID, err)
	}
}

func (r *rig) log(c workload.Container) string {
	raw, err := os.ReadFile(c.Log)
	if err != nil {
		r.Fatal(err)
	}
	return string(raw)
}

func (r *rig) ended(id string) workload.Observed {
	r.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		all, err := r.List(r.Context())
		if err != nil {
			r.Fatal(err)
		}
		for _, o := range all {
			if o.ID == id && !o.Running {
				return o
			}
		}
		<-time.After(5 * time.Millisecond)
	}
	r.Fatalf("%s does not end", id)
	return workload.Observed{}
}

func (r *rig) run(c workload.Container) (workload.Observed, string) {
	r.Helper()
	r.start(c)
	o := r.ended(c.ID)
	return o, r.log(c)
}

func TestAModuleRunsAndItsExitIsKept(t *testing.T) {
	r := newRig(t, 0)
	if o, text := r.run(r.container("a", "say", "hello")); o.Exit != 0 || !strings.Contains(text, "stdout F hello grey\n") || !strings.Contains(text, "stderr F to stderr\n") {
		t.Errorf("%+v, %q", o, text)
	}
	if o, _ := r.run(r.container("b", "exit", "9")); o.Exit != 9 || o.Unknown {
		t.Errorf("%+v; wanted exit 9", o)
	}
	c := r.container("c")
	c.Command = nil // the only module of the image
	if o, text := r.run(c); o.Exit != 0 || !strings.Contains(text, "nothing to do") {
		t.Errorf("%+v, %q", o, text)
	}
}

func TestAModuleHasTheFilesOfItsContainerAlone(t *testing.T) {
	r := newRig(t, 0)
	volume := filepath.Join(r.dir, "volume")
	if err := os.Mkdir(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	mounted := func(name string, readOnly bool, args ...string) string {
		c := r.container(name, args...)
		c.Mounts = []workload.Mount{{Source: volume, Target: "/volume", ReadOnly: readOnly}}
		_, text := r.run(c)
		return text
	}
	if text := mounted("read", false, "read", "/data/file"); !strings.Contains(text, "of the image <nil>") {
		t.Errorf("image: %q", text)
	}
	if text := mounted("write", false, "write", "/volume/new"); !strings.Contains(text, "written: <nil>") {
		t.Errorf("volume: %q", text)
	}
	if raw, err := os.ReadFile(filepath.Join(volume, "new")); err != nil || string(raw) != "by the module" {
		t.Errorf("volume holds %q, %v", raw, err)
	}
	if text := mounted("ro", true, "write", "/volume/new"); strings.Contains(text, "written: <nil>") {
		t.Errorf("a read-only volume was written: %q", text)
	}
	secret := filepath.Join(r.dir, "secret")
	if err := os.WriteFile(secret, []byte("of the node"), 0o644); err != nil {
		t.Fatal(err)
	}
	for i, target := range []string{secret, strings.Repeat("../", 30) + secret[1:], "/proc/1/environ"} {
		if text := mounted(fmt.Sprint("link", i), false, "link", target, "/volume/link"+fmt.Sprint(i)); strings.Contains(text, "of the node") {
			t.Errorf("a link led out: %q", text)
		}
	}
	if text := mounted("list", false, "list", "/"); !strings.Contains(text, "module.wasm") || strings.Contains(text, "F proc\n") {
		t.Errorf("root: %q", text)
	}
}

func TestAModulesMemoryAndTimeAreBounded(t *testing.T) {
	r := newRig(t, 0)
	c := r.container("hog", "hog")
	c.Limits.MemoryBytes = 32 << 20
	if o, text := r.run(c); o.Exit == 0 || strings.Contains(text, "has 40") {
		t.Errorf("%+v, %q", o, text)
	}
	short := newRig(t, 2*time.Second)
	c = short.container("spin", "spin")
	begin := time.Now()
	if o, _ := short.run(c); o.Exit != ExitOverdue || o.Message == "" {
		t.Errorf("%+v after %v", o, time.Since(begin))
	}
}

func TestAModuleIsStopped(t *testing.T) {
	r := newRig(t, 0)
	c := r.container("spin", "spin")
	r.start(c)
	if err := r.Stop(t.Context(), c.ID, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if o := r.ended(c.ID); o.Signal != 15 || o.Exit != 143 {
		t.Errorf("%+v; wanted signal 15", o)
	}
}

func TestNothingIsRunInsideAModule(t *testing.T) {
	r := newRig(t, 0)
	c := r.container("spin", "spin")
	r.start(c)
	if _, err := r.Exec(t.Context(), c.ID, workload.Exec{Argv: []string{"sh"}}); err == nil || !strings.Contains(err.Error(), "WebAssembly") {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsNoModuleIsAnError(t *testing.T) {
	r := newRig(t, 0)
	for name, command := range map[string]string{"none": "/none.wasm", "text": "/data/file", "folder": "/data"} {
		c := r.container(name)
		c.Command = []string{command}
		if err := r.Start(t.Context(), c); err == nil {
			t.Errorf("%s: started", name)
		} else {
			t.Log(err)
		}
	}
}
