package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// Status is what `skerry-edge status` tells: everything that is known without asking the cluster agent.
type Status struct {
	Node        string          `json:"node"`
	Cluster     string          `json:"cluster"`
	Version     string          `json:"version"`
	PID         int             `json:"pid"`
	Started     api.Millis      `json:"started"`
	Now         api.Millis      `json:"now"`
	TimeQuality api.TimeQuality `json:"timeQuality"`
	Enrolled    bool            `json:"enrolled"`
	Certificate api.Certificate `json:"certificate"`
	Link        LinkStatus      `json:"link"`
	Epoch       uint64          `json:"epoch"`
	Backlog     api.Backlog     `json:"backlog"`
	FlashBytes  int64           `json:"flashBytes"` // written since start, by outbox
	Commands    []string        `json:"openCommands"`
	Probes      []api.Probe     `json:"probes"`
	Config      string          `json:"config"`            // applied or trial; and what is not in force, why
	Trouble     string          `json:"trouble,omitempty"` // with the identity: why it is not there, or not renewed; or a note
}

// LinkStatus is the MQTT link in a status.
type LinkStatus struct {
	Connected  bool       `json:"connected"`
	Server     string     `json:"server"`
	Since      api.Millis `json:"since"`
	Attempts   uint64     `json:"attempts"`
	Reconnects uint64     `json:"reconnects"`
	BytesIn    uint64     `json:"bytesIn"`
	BytesOut   uint64     `json:"bytesOut"`
	LastError  string     `json:"lastError,omitempty"`
	NextTry    api.Millis `json:"nextTry,omitempty"`
}

// socketName is the unix socket in the runtime directory.
const socketName = "status.sock"

// statusServer answers each connection with one JSON document. What it tells is no secret, but the socket is 0600 all
// the same.
type statusServer struct {
	path  string
	tell  func() Status
	ready chan struct{}
}

func newStatusServer(dir string, tell func() Status) *statusServer {
	return &statusServer{path: filepath.Join(dir, socketName), tell: tell, ready: make(chan struct{})}
}

// Ready is closed when the socket is there.
func (s *statusServer) Ready() <-chan struct{} { return s.ready }

// Run serves until ctx ends.
func (s *statusServer) Run(ctx context.Context) error {
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old status socket: %w", err)
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", s.path)
	if err != nil {
		return fmt.Errorf("listen for status: %w", err)
	}
	if err := os.Chmod(s.path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("protect status socket: %w", err), ln.Close())
	}
	close(s.ready)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() }) // ends Accept; the error is that of Accept
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, 4)
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept status request: %w", err)
		}
		slots <- struct{}{} // each holds a slot for at most the write deadline
		wg.Go(func() {
			defer func() { <-slots }()
			s.answer(conn)
		})
	}
}

// answer writes the status; a reader that leaves early is its own loss.
func (s *statusServer) answer(conn net.Conn) {
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(2*time.Second)) == nil {
		_ = json.NewEncoder(conn).Encode(s.tell())
	}
}

// askStatus asks the running agent.
func askStatus(ctx context.Context, dir string) (*Status, error) {
	path := filepath.Join(dir, socketName)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("no agent runs (%s does not answer); start it: skerry-edge run", path)
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("ask running agent: %w; run it as root (sudo), or as the agent's user", err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask running agent: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, fmt.Errorf("ask running agent: %w", err)
	}
	var st Status
	if err := json.NewDecoder(io.LimitReader(conn, 1<<20)).Decode(&st); err != nil {
		return nil, fmt.Errorf("ask running agent: %w", err)
	}
	return &st, nil
}

func (s *Status) write(w io.Writer) error {
	link := "down: " + s.Link.LastError
	if s.Link.Connected {
		link = fmt.Sprintf("up for %s at %s", s.age(s.Link.Since), s.Link.Server)
	} else if s.Link.NextTry > s.Now {
		link += fmt.Sprintf("; next try in %s", agent.Span(s.Link.NextTry.Time().Sub(s.Now.Time())))
	}
	certificate := "none yet"
	if s.Enrolled {
		certificate = "expired"
		if left := s.Certificate.NotAfter.Time().Sub(s.Now.Time()); left > 0 {
			certificate = "valid for " + agent.Span(left) + " more"
		}
	}
	if s.Trouble != "" {
		certificate += "; " + s.Trouble
	}
	node := s.Node + " of cluster " + s.Cluster
	if !s.Enrolled {
		node = s.Node + " (in no cluster yet)"
	}
	d := s.Backlog.Dropped
	_, err := fmt.Fprintf(w, `node         %s
agent        %s, pid %d, up for %s
link         %s
             session %d, %d reconnects, %s in, %s out
certificate  %s
clock        %s (%s)
backlog      %d batches, %d events, %s; %s written to flash
dropped      %d samples, %d events, %d alarms; %d samples down-sampled
commands     %d open
config       %s
`, node, s.Version, s.PID, s.age(s.Started), link, s.Epoch, s.Link.Reconnects, agent.Size(float64(s.Link.BytesIn)),
		agent.Size(float64(s.Link.BytesOut)), certificate,
		s.Now.Time().Format(time.RFC3339), s.TimeQuality, s.Backlog.Batches, s.Backlog.Events, agent.Size(float64(s.Backlog.Bytes)),
		agent.Size(float64(s.FlashBytes)),
		d.Samples, d.Events, d.Alarms, d.Downsampled, len(s.Commands), s.Config)
	if err != nil {
		return err
	}
	for _, p := range s.Probes {
		if p.Error != "" {
			if _, err := fmt.Fprintf(w, "probe        %s: %s\n", p.Name, p.Error); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Status) age(since api.Millis) string {
	return agent.Span(s.Now.Time().Sub(since.Time()))
}

// keepFloor writes the clock floor once an hour, so that a device without a battery-backed clock starts near the truth.
func keepFloor(ctx context.Context, clock *agent.Clock, keep func(time.Time) error) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if now, quality := clock.Read(); quality != api.TimeFloor {
			if err := keep(now); err != nil {
				return err
			}
		}
	}
}

// status tells everything that `skerry-edge status` shows.
func (a *Agent) status() Status {
	now, quality := a.clock.Read()
	if !a.built.Load() {
		return Status{Node: a.cfg.Node, Version: agent.Version(), PID: os.Getpid(), Started: api.At(a.started), Now: api.At(now),
			TimeQuality: quality, Trouble: a.keeper.Trouble(), Config: "applied", Link: LinkStatus{LastError: "not enrolled yet"}}
	}
	id := a.keeper.Current()
	st := Status{Trouble: a.keeper.Trouble(), Node: id.Node, Cluster: id.Cluster, Version: agent.Version(), PID: os.Getpid(), Started: api.At(a.started), Now: api.At(now),
		TimeQuality: quality, Enrolled: id.Enrolled(), Certificate: id.Describe(), Epoch: a.epoch.Load(), Backlog: a.outbox.Backlog(),
		FlashBytes: a.outbox.Stats().FlashBytes, Commands: a.engine.Open(), Probes: a.probes.Status(), Config: a.settings.state()}
	l := a.line.status()
	st.Link = LinkStatus{Connected: l.Connected, Server: l.Server, Since: api.At(l.Since), Attempts: l.Attempts, Reconnects: l.Reconnects,
		BytesIn: l.BytesIn, BytesOut: l.BytesOut, LastError: l.LastError, NextTry: api.At(l.NextTry)}
	return st
}
