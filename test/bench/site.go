package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cli"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/mqtt"
)

// comeUp bounds how long a part may take to start.
const comeUp = 60 * time.Second

// process is a child of the bench. Its output is beside its data.
type process struct {
	cmd  *exec.Cmd
	name string
	log  string
	done chan struct{}
}

func spawn(log, program string, args ...string) (*process, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w; build it first: make build", program, err), file.Close())
	}
	p := &process{cmd: cmd, name: filepath.Base(program), log: log, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how it ended is in its log
		_ = file.Close()
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process and waits for it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // gone already is as good
	limit := time.NewTimer(15 * time.Second)
	defer limit.Stop()
	select {
	case <-p.done:
	case <-limit.C:
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// until polls ready as long as p lives.
func (p *process) until(ctx context.Context, what string, ready func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, comeUp)
	defer cancel()
	for !ready(ctx) {
		select {
		case <-p.done:
			raw, _ := os.ReadFile(p.log)
			return fmt.Errorf("wait for %s: %s ended: %s", what, p.name, raw[max(0, len(raw)-1000):])
		default:
		}
		if !agent.Wait(ctx, 100*time.Millisecond) {
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		}
	}
	return nil
}

// site is a cluster agent of its own, in a directory of its own.
type site struct {
	*process
	dir    string
	bin    string
	rest   *cli.Client
	status api.ClusterStatus

	temporary []string // directories to remove at the stop
}

// stop ends the cluster agent. The nodes have been stopped.
func (s *site) stop() {
	s.process.stop()
	for _, dir := range s.temporary {
		_ = os.RemoveAll(dir) // in memory; the next boot takes it
	}
}

// newSite starts skerry-cluster without the limits that protect it from a load generator.
func newSite(ctx context.Context, o options, name string) (*site, error) {
	s := &site{dir: filepath.Join(o.dir, name), bin: o.bin}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	dir := filepath.Join(s.dir, "cluster")
	var err error
	s.process, err = spawn(filepath.Join(s.dir, "cluster.log"), filepath.Join(o.bin, "skerry-cluster"), "run", "--set", "cluster=bench",
		"--set", "dir="+dir, "--set", "advertise=127.0.0.1", "--set", "mqtt.listen=127.0.0.1:0", "--set", "http.listen=127.0.0.1:0",
		"--set", "mqtt.messages_per_second=1000000", "--set", "mqtt.accept_per_second=1000")
	if err != nil {
		return nil, err
	}
	err = s.until(ctx, "the cluster agent", func(ctx context.Context) bool {
		raw, err := os.ReadFile(filepath.Join(dir, "admin.yaml"))
		var all cli.Contexts
		if err != nil || yaml.Unmarshal(raw, &all) != nil || len(all.Contexts) == 0 {
			return false
		}
		s.rest, err = cli.NewClient(all.Contexts[0])
		return err == nil && s.rest.Get(ctx, "/v1/status", &s.status) == nil
	})
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *site) topics() mqtt.Topics {
	return mqtt.Topics{Root: s.status.Root, Cluster: s.status.Cluster}
}

// broker is host:port of the MQTT listener.
func (s *site) broker() (string, error) {
	if len(s.status.MQTT) == 0 {
		return "", errors.New("cluster agent names no broker")
	}
	u, err := url.Parse(s.status.MQTT[0])
	if err != nil {
		return "", fmt.Errorf("broker %q: %w", s.status.MQTT[0], err)
	}
	return u.Host, nil
}

func (s *site) join(ctx context.Context, uses int) (string, error) {
	var t api.Token
	err := s.rest.Post(ctx, "/v1/tokens", api.TokenRequest{TTL: "1h", MaxUses: uses}, &t)
	return t.Join, err
}

// enroll makes n nodes with real keys and certificates of the cluster agent.
func (s *site) enroll(ctx context.Context, prefix string, n int) ([]client, error) {
	text, err := s.join(ctx, n)
	if err != nil {
		return nil, err
	}
	join, err := api.ParseJoin(text)
	if err != nil {
		return nil, err
	}
	clock := agent.NewClock(agent.BuildTime(), agent.ClockSource{})
	service := &identity.Client{Clock: clock, Host: api.Host{Arch: "amd64", OS: "linux"}}
	var out []client
	for i := range n {
		id, err := identity.New(fmt.Sprintf("%s-%03d", prefix, i))
		if err != nil {
			return nil, err
		}
		csr, err := id.CSR()
		if err != nil {
			return nil, err
		}
		request := &api.EnrollRequest{Node: id.Node, CSR: csr}
		reply, err := service.Enroll(ctx, &join, request)
		// The service takes only so many from one address, and all of them come from this one.
		for busy := (*identity.BusyError)(nil); errors.As(err, &busy) && agent.Wait(ctx, max(busy.Wait, time.Second)); {
			reply, err = service.Enroll(ctx, &join, request)
		}
		if err != nil {
			return nil, fmt.Errorf("enrol %s: %w", id.Node, err)
		}
		if id, err = id.With(reply, join.CASHA256); err != nil {
			return nil, err
		}
		out = append(out, client{id: id.Node, tls: id.BrokerTLS("127.0.0.1", clock)})
	}
	return out, nil
}

// operator makes a certificate as `skerry operator create` does.
func (s *site) operator(ctx context.Context, name string) (client, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return client{}, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return client{}, err
	}
	csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	var op api.Operator
	if err := s.rest.Post(ctx, "/v1/operators", api.OperatorRequest{Name: name, Role: api.RoleOperator, TTL: "24h", CSR: csr}, &op); err != nil {
		return client{}, err
	}
	cert := tls.Certificate{PrivateKey: key}
	for rest := []byte(op.PEM); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert.Certificate = append(cert.Certificate, block.Bytes)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(op.CA)) {
		return client{}, errors.New("operator certificate came without a CA")
	}
	return client{id: "operator:" + name, tls: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: "127.0.0.1",
		Certificates: []tls.Certificate{cert}}}, nil
}

// node starts a node agent with the default probes at interval and waits until it is online.
func (s *site) node(ctx context.Context, program, name, interval string) (*process, string, error) {
	text, err := s.join(ctx, 1)
	if err != nil {
		return nil, "", err
	}
	dir := filepath.Join(s.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("make directory of %s: %w", name, err)
	}
	run, err := os.MkdirTemp(inMemory, "skerry-bench-") // as /run is
	if err != nil {
		return nil, "", fmt.Errorf("make runtime directory of %s: %w", name, err)
	}
	s.temporary = append(s.temporary, run)
	config := fmt.Sprintf("node: %s\njoin: %q\ndir: %s\nruntime_dir: %s\ntelemetry:\n  interval: %s\n"+
		"command:\n  exec:\n    - {name: bench, argv: [/bin/true]}\n", name, text, dir, run, interval)
	path := filepath.Join(dir, "edge.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, "", fmt.Errorf("write configuration of %s: %w", name, err)
	}
	p, err := spawn(filepath.Join(dir, "edge.log"), filepath.Join(s.bin, program), "run", "--config", path)
	if err != nil {
		return nil, "", err
	}
	err = p.until(ctx, name+" online", func(ctx context.Context) bool {
		var n api.Node
		return s.rest.Get(ctx, "/v1/nodes/"+name, &n) == nil && n.Presence == api.PresenceOnline
	})
	if err != nil {
		p.stop()
		return nil, "", err
	}
	return p, path, nil
}
