package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// pod is what a kubelet would be told of one, as far as it counts here.
type pod struct {
	Spec struct {
		AutomountServiceAccountToken *bool `json:"automountServiceAccountToken"`
		ServiceAccountName           string
		SecurityContext              struct {
			RunAsNonRoot                   bool
			RunAsUser, RunAsGroup, FSGroup uint32
		} `json:"securityContext"`
		Containers []struct {
			Args []string
			Env  []struct {
				Name, Value string
				ValueFrom   struct{ FieldRef struct{ FieldPath string } }
			}
			SecurityContext struct {
				ReadOnlyRootFilesystem bool
			}
			VolumeMounts []struct {
				Name, MountPath string
				ReadOnly        bool
			}
		}
	}
}

// container runs the one container of a pod as a kubelet would: nothing in its root but the program, which cannot be written to, the
// volumes, a token of the service account; as the user of the pod, without capabilities. The network is this machine's.
type container struct {
	t     testing.TB
	pod   pod
	root  string
	env   []string
	log   string
	work  chan func()
	ended chan struct{}
	cmd   *exec.Cmd
}

// newContainer makes its root. volumes are by name, account is the directory of the service account's token.
func newContainer(t testing.TB, p pod, program string, volumes map[string]string, account string) *container {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test takes root, for mounts and a user")
		}
		t.Skip("this test takes root, for mounts and a user")
	}
	c := &container{t: t, pod: p, root: t.TempDir(), log: filepath.Join(t.TempDir(), "log"), work: make(chan func()), ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		runtime.LockOSThread() // and never unlocked: the thread ends, and its mounts with it
		for f := range c.work {
			f()
		}
	}()
	t.Cleanup(func() { close(c.work); <-c.ended })
	c.do(func() error { return c.mount(program, volumes, account) })
	for _, e := range p.Spec.Containers[0].Env {
		value := e.Value
		if e.ValueFrom.FieldRef.FieldPath == "status.podIP" {
			value = "127.0.0.1"
		}
		c.env = append(c.env, e.Name+"="+value)
	}
	return c
}

// do calls f where the mounts are, and fails the test with its error.
func (c *container) do(f func() error) {
	c.t.Helper()
	done := make(chan error, 1)
	c.work <- func() { done <- f() }
	if err := <-done; err != nil {
		c.t.Fatal(err)
	}
}

func (c *container) mount(program string, volumes map[string]string, account string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", c.root, "tmpfs", 0, "mode=0755,size=256m"); err != nil {
		return err
	}
	raw, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.root, filepath.Base(program)), raw, 0o755); err != nil {
		return err
	}
	if err := c.bind("/proc", "/proc", false); err != nil {
		return err
	}
	for _, v := range c.pod.Spec.Containers[0].VolumeMounts {
		if from, ok := volumes[v.Name]; ok { // the token's is the API server's own name
			if err := c.bind(from, v.MountPath, v.ReadOnly); err != nil {
				return err
			}
		}
	}
	if on := c.pod.Spec.AutomountServiceAccountToken; on == nil || *on {
		if err := c.bind(account, "/var/run/secrets/kubernetes.io/serviceaccount", true); err != nil {
			return err
		}
	}
	if !c.pod.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem {
		return nil
	}
	return unix.Mount("", c.root, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

func (c *container) bind(from, to string, readOnly bool) error {
	at := filepath.Join(c.root, to)
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(from, at, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", to, err)
	}
	if !readOnly {
		return nil
	}
	return unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// command is a program inside, as the pod's user.
func (c *container) command(ctx context.Context, env []string, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	who := c.pod.Spec.SecurityContext
	cmd.Dir, cmd.Env = "/", append(append([]string{}, c.env...), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root, Pdeathsig: syscall.SIGKILL,
		Credential: &syscall.Credential{Uid: who.RunAsUser, Gid: who.RunAsGroup, Groups: []uint32{who.FSGroup}}}
	return cmd
}

// start starts what the image's entry point is, with the pod's arguments; it ends with the test.
func (c *container) start(entry string, env ...string) {
	c.t.Helper()
	log, err := os.Create(c.log)
	if err != nil {
		c.t.Fatal(err)
	}
	c.cmd = c.command(context.WithoutCancel(c.t.Context()), env, append([]string{entry}, c.pod.Spec.Containers[0].Args...)...)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.do(c.cmd.Start)
	c.t.Cleanup(func() {
		if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			c.t.Errorf("it had ended by itself: %v", err)
		}
		if err := c.cmd.Wait(); err != nil {
			c.t.Errorf("it ends with %v; wanted 0 after SIGTERM", err)
		}
		log.Close()
		if raw, err := os.ReadFile(c.log); c.t.Failed() && err == nil {
			c.t.Logf("container:\n%s", raw[max(0, len(raw)-6000):])
		}
	})
}

// exec is kubectl exec.
func (c *container) exec(argv ...string) (string, error) {
	c.t.Helper()
	var out, complaints bytes.Buffer
	cmd := c.command(c.t.Context(), nil, argv...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	var err error
	c.do(func() error { err = cmd.Run(); return nil })
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, complaints.String())
	}
	return out.String(), err
}

// readPod reads one as kubectl prints it.
func readPod(t testing.TB, text string) (p pod) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	if len(p.Spec.Containers) != 1 {
		t.Fatalf("a pod of %d containers; wanted one: %s", len(p.Spec.Containers), text)
	}
	return p
}
