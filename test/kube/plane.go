// Package kube starts a real Kubernetes control plane for tests: kine on SQLite, kube-apiserver, kube-controller-manager and
// kube-scheduler as child processes, with the flags and certificates that k3s gives them. Nodes and kubelets are up to the
// test. `make test-kube` builds the programs; docs/testing.md tells more.
package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Version is that of the control plane and of kubectl.
const Version = "v1.37.2"

// Options of a control plane; the zero value is a plain cluster on loopback.
type Options struct {
	// Address is the IPv4 address where the API server listens; default 127.0.0.1.
	Address string
	// K3s has clients, tunnels and kubelet traffic go through one port as on a k3s server: ControlPlane.Tunnel.
	K3s bool
	// ServerNode is the node that runs beside a k3s server and needs no tunnel; default none.
	ServerNode string
	// NodeGrace is how long a node without a Lease counts as ready; 0 is Kubernetes' own (50 s).
	NodeGrace time.Duration
	// APIServer and ControllerManager are further flags, which win.
	APIServer, ControllerManager []string
}

// ControlPlane is a running cluster. Its methods are not safe for concurrent use, those of its users are.
type ControlPlane struct {
	Dir    string  // state, certificates and logs
	Admin  *User   // a cluster administrator
	Tunnel *Tunnel // with Options.K3s, else nil

	options   Options
	port      *port
	papers    *papers
	kine      *process
	api       *process
	manager   *process
	scheduler *process
	client    *http.Client // of the administrator
	users     int
	kubectl   string
}

// readyWithin is for a machine that is busy with other tests; an idle one takes some 5 s.
const readyWithin = 3 * time.Minute

// longestDir leaves room for the socket's name in the 107 characters of unix(7).
const longestDir = 90

// New starts a control plane in dir, which has to be empty, and waits until it is ready. Close ends it, also after an error.
func New(ctx context.Context, dir string, o Options) (*ControlPlane, error) {
	if len(dir) > longestDir {
		return &ControlPlane{Dir: dir}, fmt.Errorf("start control plane: directory %q: wanted at most %d characters, as a socket goes there", dir, longestDir)
	}
	if o.Address == "" {
		o.Address = "127.0.0.1"
	}
	p := &ControlPlane{Dir: dir, options: o}
	if err := p.prepare(); err != nil {
		return p, fmt.Errorf("start control plane: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := p.run(ctx); err != nil {
		return p, fmt.Errorf("start control plane: %w", err)
	}
	return p, nil
}

func (p *ControlPlane) prepare() error {
	var err error
	if p.papers, err = newPapers(filepath.Join(p.Dir, "tls"), p.options.Address); err != nil {
		return err
	}
	if p.port, err = reserve(p.options.Address); err != nil {
		return err
	}
	if p.options.K3s {
		if p.Tunnel, err = newTunnel(p); err != nil {
			return err
		}
	}
	transport, err := p.papers.transport(p.papers.admin)
	if err != nil {
		return err
	}
	p.client = &http.Client{Transport: transport}
	if p.kubectl, err = Part("kubectl"); err != nil {
		return err
	}
	if p.Admin, err = p.User("system:admin", "system:masters"); err != nil {
		return err
	}
	for _, c := range []struct {
		to   **process
		name string
		args func() ([]string, error)
	}{
		{&p.kine, "kine", p.kineArgs}, {&p.api, "kube-apiserver", p.apiArgs},
		{&p.manager, "kube-controller-manager", p.managerArgs}, {&p.scheduler, "kube-scheduler", p.schedulerArgs},
	} {
		program, err := Part(c.name)
		if err != nil {
			return err
		}
		args, err := c.args()
		if err != nil {
			return err
		}
		*c.to = &process{name: c.name, program: program, args: args, log: filepath.Join(p.Dir, c.name+".log")}
	}
	return nil
}

func (p *ControlPlane) run(ctx context.Context) error {
	if err := p.kine.start(); err != nil {
		return err
	}
	if err := p.until(ctx, "kine listens", func() error { _, err := os.Stat(p.socket()); return err }); err != nil {
		return err
	}
	if err := p.StartAPIServer(ctx); err != nil {
		return err
	}
	if err := errors.Join(p.manager.start(), p.scheduler.start()); err != nil {
		return err
	}
	// The controllers' sign of life: without this account no pod can be made.
	return p.until(ctx, "service accounts are made", func() error {
		return p.get(ctx, "/api/v1/namespaces/default/serviceaccounts/default")
	})
}

// StartAPIServer starts the API server, and with Options.K3s the tunnel, and waits until it is ready.
func (p *ControlPlane) StartAPIServer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := p.api.start(); err != nil {
		return err
	}
	if err := p.until(ctx, "the API server is ready", func() error { return p.get(ctx, "/readyz") }); err != nil {
		return err
	}
	if p.Tunnel != nil {
		return p.Tunnel.Start()
	}
	return nil
}

// StopAPIServer stops the API server alone, and with Options.K3s the tunnel, which is one program with it in k3s: their
// ports refuse connections until StartAPIServer.
func (p *ControlPlane) StopAPIServer() error { return p.endAPIServer(syscall.SIGTERM) }

// KillAPIServer is StopAPIServer as a power cut does it.
func (p *ControlPlane) KillAPIServer() error { return p.endAPIServer(syscall.SIGKILL) }

func (p *ControlPlane) endAPIServer(sig syscall.Signal) error {
	var err error
	if p.Tunnel != nil {
		err = p.Tunnel.Stop()
	}
	return errors.Join(err, p.api.end(sig, 20*time.Second))
}

// part is a program of the control plane by its name.
func (p *ControlPlane) part(name string) *process {
	for _, c := range []*process{p.kine, p.api, p.manager, p.scheduler} {
		if c != nil && c.name == name {
			return c
		}
	}
	return nil
}

// Signal sends a signal, such as SIGSTOP, to one of the programs: kine, kube-apiserver, kube-controller-manager or kube-scheduler.
func (p *ControlPlane) Signal(name string, sig syscall.Signal) error {
	pid := p.Pid(name)
	if pid == 0 {
		return fmt.Errorf("signal %s: it does not run", name)
	}
	return syscall.Kill(pid, sig)
}

// Pid is the process id of one of the programs; 0 when it does not run.
func (p *ControlPlane) Pid(name string) int {
	c := p.part(name)
	if c == nil || c.cmd == nil {
		return 0
	}
	return c.cmd.Process.Pid
}

// Close kills every process; what is in Dir stays.
func (p *ControlPlane) Close() error {
	var errs []error
	if p.Tunnel != nil {
		errs = append(errs, p.Tunnel.close())
	}
	for _, c := range []*process{p.scheduler, p.manager, p.api, p.kine} {
		if c != nil {
			errs = append(errs, c.end(syscall.SIGKILL, time.Minute))
		}
	}
	if p.port != nil {
		p.port.release()
	}
	return errors.Join(errs...)
}

// URL is where clients reach the API server.
func (p *ControlPlane) URL() string {
	if p.Tunnel != nil {
		return p.Tunnel.URL()
	}
	return p.direct()
}

func (p *ControlPlane) direct() string { return "https://" + p.port.at(p.options.Address) }

func (p *ControlPlane) socket() string { return filepath.Join(p.Dir, "kine.sock") }

// get asks the API server itself, as the administrator, and wants 200.
func (p *ControlPlane) get(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.direct()+path, nil)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		return errors.Join(fmt.Errorf("get %s: %s", path, resp.Status), err)
	}
	return nil
}

// until polls until f succeeds; it gives up with ctx, or when a program that has been started ended by itself.
func (p *ControlPlane) until(ctx context.Context, what string, f func() error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		for _, c := range []*process{p.kine, p.api, p.manager, p.scheduler} {
			if gone := c.gone(); gone != nil {
				return fmt.Errorf("wait until %s: %w", what, gone)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w: %w", what, ctx.Err(), err)
		case <-tick.C:
		}
	}
}
