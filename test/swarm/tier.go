package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cli"
)

// Tier is something that a scenario starts, kills and waits for: a process, a node of Kubernetes, a continuum. Not for
// concurrent use.
type Tier interface {
	// Start starts it, or starts it again after Kill, with the state and the addresses that it had.
	Start(ctx context.Context) error
	// Kill ends it as a power cut would, and returns when it is gone.
	Kill(ctx context.Context) error
	// Await returns when it serves.
	Await(ctx context.Context) error
}

// ClusterTier is a cluster agent with its broker, as a process of this machine. Its ports stay the same through restarts.
type ClusterTier struct {
	Program  string   // path
	Dir      string   // of its state and its log; has to be absolute
	Settings []string // key=value, beyond the addresses
	Prefix   []string // a command that runs it, such as taskset -c 0
	Env      []string // beyond that of this process
	Host     string   // address of the listeners; empty: 127.0.0.1
	// Begin starts the process in place of start, as in another network namespace; nil: start does.
	Begin func(start func() error) error
	// Started is told its process id, before anything is awaited; nil: nobody is. An error ends the start.
	Started func(pid int) error
	Access  cli.Context
	Status  api.ClusterStatus // as of the first Await

	cmd        *exec.Cmd
	done       chan struct{}
	mqtt, http string // host:port
}

// Start starts the process.
func (c *ClusterTier) Start(ctx context.Context) error {
	if c.cmd != nil {
		return errors.New("start cluster agent: it runs already")
	}
	if c.Host == "" {
		c.Host = "127.0.0.1"
	}
	if c.mqtt == "" {
		c.mqtt, c.http = net.JoinHostPort(c.Host, "0"), net.JoinHostPort(c.Host, "0")
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("start cluster agent: %w", err)
	}
	args := []string{c.Program, "run", "--set", "cluster=swarm", "--set", "dir=" + filepath.Join(c.Dir, "state"), "--set", "advertise=" + c.Host,
		"--set", "mqtt.listen=" + c.mqtt, "--set", "http.listen=" + c.http}
	for _, s := range c.Settings {
		args = append(args, "--set", s)
	}
	args = append(slices.Clone(c.Prefix), args...)
	log, err := os.OpenFile(filepath.Join(c.Dir, "cluster.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start cluster agent: %w", err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	begin := c.Begin
	if begin == nil {
		begin = func(start func() error) error { return start() }
	}
	if err := begin(cmd.Start); err != nil {
		return errors.Join(fmt.Errorf("start cluster agent: %w", err), log.Close())
	}
	done := make(chan struct{})
	c.cmd, c.done = cmd, done
	go func() { // ends with the process
		defer close(done)
		_ = cmd.Wait() // how it ended is in its log
		_ = log.Close()
	}()
	if c.Started != nil {
		if err := c.Started(cmd.Process.Pid); err != nil {
			return errors.Join(fmt.Errorf("start cluster agent: %w", err), c.Kill(ctx))
		}
	}
	return nil
}

// Pid is its process id; 0 when it does not run.
func (c *ClusterTier) Pid() int {
	if c.cmd == nil {
		return 0
	}
	return c.cmd.Process.Pid
}

// Kill kills the process.
func (c *ClusterTier) Kill(ctx context.Context) error { return c.end(ctx, syscall.SIGKILL) }

// Stop asks the process to end.
func (c *ClusterTier) Stop(ctx context.Context) error { return c.end(ctx, syscall.SIGTERM) }

func (c *ClusterTier) end(ctx context.Context, sig syscall.Signal) error {
	if c.cmd == nil {
		return nil
	}
	if err := syscall.Kill(-c.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end cluster agent: %w", err)
	}
	select {
	case <-c.done:
		c.cmd = nil
		return nil
	case <-ctx.Done():
		return fmt.Errorf("end cluster agent: %w", ctx.Err())
	}
}

// Await waits until REST answers, and learns the addresses the first time.
func (c *ClusterTier) Await(ctx context.Context) error {
	for {
		err := c.look(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("wait for cluster agent: it has ended; see %s", filepath.Join(c.Dir, "cluster.log"))
		default:
		}
		if !agent.Wait(ctx, 100*time.Millisecond) {
			return fmt.Errorf("wait for cluster agent: %w: %w", ctx.Err(), err)
		}
	}
}

func (c *ClusterTier) look(ctx context.Context) error {
	access, err := ReadAccess(filepath.Join(c.Dir, "state", "admin.yaml"))
	if err != nil {
		return err
	}
	client, err := cli.NewClient(access)
	if err != nil {
		return err
	}
	resp, err := client.Do(ctx, http.MethodGet, "/readyz", nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if c.Access.Server != "" {
		return nil
	}
	if err := client.Get(ctx, "/v1/status", &c.Status); err != nil {
		return err
	}
	if len(c.Status.MQTT) == 0 {
		return errors.New("cluster agent names no broker")
	}
	c.Access = access
	c.http, c.mqtt = c.at(access.Server), c.at(c.Status.MQTT[0])
	return nil
}

// at is the port of a URL, at the address of the listeners.
func (c *ClusterTier) at(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(c.Host, u.Port())
}

// ReadAccess reads the current context of a file that holds contexts, such as the cluster agent's admin.yaml.
func ReadAccess(path string) (cli.Context, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return cli.Context{}, fmt.Errorf("read access: %w", err)
	}
	var all cli.Contexts
	if err := yaml.Unmarshal(raw, &all); err != nil {
		return cli.Context{}, fmt.Errorf("read access %s: %w", path, err)
	}
	for _, x := range all.Contexts {
		if x.Name == all.Current || len(all.Contexts) == 1 {
			return x, nil
		}
	}
	return cli.Context{}, fmt.Errorf("read access %s: no current context in it", path)
}
