package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/rest"
)

// server is the one HTTPS listener.
type server struct {
	agent   *Agent
	http    *http.Server
	closing context.CancelFunc // ends watches and followed logs
	busy    sync.WaitGroup     // requests under way
}

// drainWithin is how long requests under way may take when the agent stops.
const drainWithin = 5 * time.Second

func (a *Agent) newREST() (*server, error) {
	closing, cancel := context.WithCancel(context.WithoutCancel(a.life))
	srv := &server{agent: a, closing: cancel}
	devices := http.NewServeMux()
	a.enroll.Routes(devices)
	devices.HandleFunc("POST /v1/leave", a.serveLeave)
	site := rest.Site{Gate: gate{a}, Fleet: fleet{a}, Orders: orders{a}, Admission: admission{a}, Files: files{a.streams}, Live: a.streams, Images: imageStore{a},
		Pulls: http.HandlerFunc(a.servePulls), Releases: releaseStore{a}, Rollouts: rollouts{a}, Release: http.HandlerFunc(a.serveRelease), Status: a.status,
		PromQL: a.telemetry.Handler(), Enroll: devices, Metrics: a.metrics(), Ready: a.ready, Closing: closing,
		Log: a.own.tail, Config: a.configText}
	handler := a.enroll.Guard(rest.New(site, agent.Version()))
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		srv.busy.Add(1)
		defer srv.busy.Done()
		handler.ServeHTTP(w, r)
	})
	srv.http = &http.Server{
		Handler: counted, TLSConfig: a.enroll.ServerTLS(a.listener),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	return srv, nil
}

// Run gives devices the addresses that are known by now, writes the administrator's context, and serves until ctx ends:
// then no more requests are taken, and those under way end first.
func (s *server) Run(ctx context.Context) error {
	if err := s.agent.publishAddresses(); err != nil {
		return errors.Join(err, s.agent.https.Close())
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWithin)
		defer cancel()
		s.closing()
		err := s.http.Shutdown(dctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = s.http.Close()
		}
		s.busy.Wait() // the stores close next
		stopped <- err
	})
	defer stop()
	err := s.http.Serve(tls.NewListener(s.agent.https, s.http.TLSConfig))
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTPS: %w", err)
	}
	return <-stopped
}

// publishAddresses tells enrolment where the broker is, now that its port is known, and writes admin.yaml.
func (a *Agent) publishAddresses() error {
	brokers := a.cfg.MQTT.NodeServers
	if len(brokers) == 0 && a.cfg.MQTT.External != "" {
		brokers = []string{a.cfg.MQTT.External}
	}
	if len(brokers) == 0 {
		brokers = a.urls("mqtts", net.JoinHostPort("", a.wire.Port()))
	}
	if err := a.enroll.Advertise(a.endpoints(a.https.Addr()), brokers); err != nil {
		return err
	}
	return a.writeAdmin()
}

// contexts is the form of the command line's configuration file.
type contexts struct {
	Current  string         `yaml:"current"`
	Contexts []adminContext `yaml:"contexts"`
}

type adminContext struct {
	Name   string `yaml:"name"`
	Server string `yaml:"server"`
	CA     string `yaml:"ca"`
	Token  string `yaml:"token"`
}

// adminFile is the administrator's context in the agent's directory.
const adminFile = "admin.yaml"

// writeAdmin writes admin.yaml, with an administrator's token, when the agent first starts; later starts only correct
// the address in it.
func (a *Agent) writeAdmin() error {
	path := filepath.Join(a.cfg.Dir, adminFile)
	raw, rerr := os.ReadFile(path)
	write := func(token string) error {
		text, err := yaml.Marshal(contexts{a.cfg.Cluster, []adminContext{{a.cfg.Cluster, a.endpoints(a.https.Addr())[0],
			string(a.authority.BundlePEM()), token}}})
		if err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		if bytes.Equal(text, raw) {
			return nil
		}
		if err := os.WriteFile(path+".new", text, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		return os.Rename(path+".new", path)
	}
	created, err := a.tokens.First("admin", write)
	if err != nil || created {
		return err
	}
	if errors.Is(rerr, os.ErrNotExist) {
		return nil // taken away on purpose
	}
	var known contexts
	if err = rerr; err == nil {
		err = yaml.Unmarshal(raw, &known)
	}
	if err == nil && len(known.Contexts) == 1 {
		err = write(known.Contexts[0].Token)
	}
	if err != nil || len(known.Contexts) != 1 { // the disk may be full: nobody needs the address more than the fleet its cluster agent
		a.log.Warn("administrator's context not brought up to date", agent.KeyPath, path, agent.KeyErr, err)
	}
	return nil
}

// status is what GET /v1/status tells.
func (a *Agent) status() api.ClusterStatus {
	st := api.ClusterStatus{Cluster: a.cfg.Cluster, Version: agent.Version(), Started: api.At(a.started), Now: api.At(a.clock.Now()),
		Broker: "down", MQTT: a.urls("mqtts", net.JoinHostPort("", a.wire.Port())), Root: a.topics.Root, Nodes: a.registry.Stats().ByPresence,
		Open: a.journal.Stats().Open, Samples: a.samples.Load()}
	h := a.health()
	st.Trouble = h.trouble()
	if a.cfg.MQTT.External != "" {
		st.MQTT = []string{a.cfg.MQTT.External}
	}
	if a.brokerUp.Load() {
		st.Broker = "up"
	}
	if a.share != nil {
		st.Replica, st.Replicas = a.share.name, a.share.status()
		st.Trouble = append(st.Trouble, absent(st.Replicas, a.cfg.Replica.Names)...)
	}
	if a.kube != nil {
		st.Kube = a.kube.Status()
		st.Trouble = append(st.Trouble, a.kube.Trouble()...)
	}
	if waiting, err := a.enroll.Pending(); err == nil {
		st.Pending = len(waiting)
	}
	return st
}
