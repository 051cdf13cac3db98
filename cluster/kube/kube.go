// Package kube is the cluster agent's side of a Kubernetes API server: it installs the CRDs, keeps an MLSysOpsNode for every
// device, runs NodeCommands and carries out Rollouts. It decides nothing about devices by itself: what it reads and orders goes through the small
// interfaces of package inventory and package order, which package cluster implements.
//
// The cluster agent is complete without it. Bridge.Run lives through an API server that is away, a lost lease, a revoked right
// and a missing kubeconfig: each ends one life, from a fresh look at the kubeconfig to the end of all caches and workers, and
// after a while another begins, which lists everything and compares. Nothing is kept between lives but what went wrong.
package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/kube/inventory"
	"github.com/skerry-edge/skerry/cluster/kube/order"
	"github.com/skerry-edge/skerry/cluster/kube/vnode"
	"github.com/skerry-edge/skerry/cluster/kube/wave"
)

// Config of a Bridge. All fields but Kubeconfig and Replica are set.
type Config struct {
	Cluster    string
	Replica    string // this one of several cluster agents; empty: there is one alone
	Kubeconfig string // a file; empty: the service account of the pod that this runs in
	Namespace  string
	Layer      string // of the continuum, for devices that nobody has said one for
	Refresh    time.Duration
	Grace      time.Duration // of commands after their deadline
	InstallCRD bool

	Registry inventory.Registry
	Fleet    inventory.Fleet
	Door     order.Door
	Journal  order.Journal
	Rollouts wave.Store
	Virtual  *Virtual // nil: devices become no nodes
	Log      *slog.Logger
	Now      func() time.Time
}

// Bridge is the connection to one API server. New builds it, Run is called once.
type Bridge struct {
	cfg Config

	mu    sync.Mutex
	since time.Time // when it went out of reach; zero: it is in reach
	why   error
	stage string                // of the life, for people
	nodes *inventory.Controller // nil between lives
	reach *reach                // likewise, and nil without virtual nodes
	held  string                // who leads
	lacks []string              // rights, for devices to be nodes
	// faults of virtual nodes; nil between lives, and while there are none.
	faults *vnode.Faults
}

// New returns a bridge.
func New(cfg Config) *Bridge {
	return &Bridge{cfg: cfg, stage: "starting", since: cfg.Now(), why: errors.New("not asked yet")}
}

// The bounds of the wait between lives: API servers come back within seconds as a rule, and an agent that waits for one
// that comes back after hours should not be the last to notice.
const (
	retryMin = time.Second
	retryMax = 30 * time.Second
	stable   = time.Minute // a life that lasted this long was no failure to begin
)

// Run leads one life after another until ctx ends. It returns nil: whatever Kubernetes does is no reason for the cluster
// agent to stop.
func (b *Bridge) Run(ctx context.Context) error {
	b.quietLibraries()
	wait := agent.Backoff{Min: retryMin, Max: retryMax}
	for {
		began := b.cfg.Now()
		err := b.live(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errAnew) {
			continue
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		if b.cfg.Now().Sub(began) > stable {
			wait.Reset()
		}
		b.fail(err)
		if !agent.Wait(ctx, max(wait.Next(), retryMin/4)) {
			return nil
		}
	}
}

// quietLibraries sends what the Kubernetes libraries log to ours, as debugging: what they take for errors, such as a watch
// that ended, is the ordinary life of a connection, and what matters comes back as an error. Theirs are settings of the
// process.
func (b *Bridge) quietLibraries() {
	log := logr.FromSlogHandler(debugging{b.cfg.Log.Handler()})
	klog.SetLogger(log)
	ctrllog.SetLogger(log)
	logrus.SetOutput(slog.NewLogLogger(b.cfg.Log.Handler(), slog.LevelDebug).Writer()) // remotedialer's
}

// debugging is a handler that takes everything for debugging.
type debugging struct{ slog.Handler }

func (d debugging) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo && d.Handler.Enabled(ctx, slog.LevelDebug)
}

func (d debugging) Handle(ctx context.Context, r slog.Record) error {
	if !d.Handler.Enabled(ctx, slog.LevelDebug) { // errors come without a question
		return nil
	}
	r.Level = slog.LevelDebug
	return d.Handler.Handle(ctx, r)
}

func (d debugging) WithAttrs(attrs []slog.Attr) slog.Handler {
	return debugging{d.Handler.WithAttrs(attrs)}
}

func (d debugging) WithGroup(name string) slog.Handler { return debugging{d.Handler.WithGroup(name)} }

// fail notes that the API server is out of reach, or of no use. It is logged when it begins, not at each attempt.
func (b *Bridge) fail(err error) {
	b.mu.Lock()
	first := b.since.IsZero() || b.stage == "starting"
	if b.since.IsZero() {
		b.since = b.cfg.Now()
	}
	b.why, b.stage, b.nodes, b.reach, b.faults = err, "down", nil, nil, nil
	b.mu.Unlock()
	if first {
		b.cfg.Log.Warn("Kubernetes is out of reach", agent.KeyErr, err)
	}
}

// well notes that the API server answers.
func (b *Bridge) well(stage, leader string) {
	b.mu.Lock()
	away := b.since
	b.since, b.why, b.stage, b.held = time.Time{}, nil, stage, leader
	b.mu.Unlock()
	if !away.IsZero() {
		b.cfg.Log.Info("Kubernetes is in reach", agent.KeyState, stage, agent.KeyTook, agent.Brief(b.cfg.Now().Sub(away)).String())
	}
}

// sick notes that the API server does not answer in the middle of a life.
func (b *Bridge) sick(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.since.IsZero() {
		b.since = b.cfg.Now()
	}
	b.why = err
}

// Trouble says in one line each what the bridge cannot do, and the cure.
func (b *Bridge) Trouble() (out []string) {
	b.mu.Lock()
	since, why, nodes, lacks, faults, at := b.since, b.why, b.nodes, b.lacks, b.faults, b.reach
	b.mu.Unlock()
	if !since.IsZero() {
		where := "kube.kubeconfig " + b.cfg.Kubeconfig
		if b.cfg.Kubeconfig == "" {
			where = "the service account of this pod"
		}
		out = append(out, fmt.Sprintf("kubernetes is out of reach since %s: %.300s; devices, telemetry, REST and MQTT go on without it, and it is tried again; see %s",
			since.UTC().Format(time.RFC3339), oneLine(why), where))
	}
	if len(lacks) > 0 {
		out = append(out, fmt.Sprintf("devices do not become nodes: not allowed to %.300s; kubectl apply -f install/kube/rbac.yaml, or set kube.virtual_nodes: false",
			strings.Join(lacks, ", ")))
	}
	if faults != nil {
		out = append(out, faults.Trouble()...)
	}
	if nodes != nil {
		out = append(out, nodes.Trouble()...)
	}
	if at != nil {
		out = append(out, at.trouble()...)
	}
	return out
}

// Status is what there is to say in short.
func (b *Bridge) Status() *api.KubeStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := &api.KubeStatus{State: b.stage, Leader: b.held}
	if b.reach != nil && (b.stage == "leading" || b.cfg.Replica != "") { // a replica reaches its own devices, whoever leads
		st.Kubelet = b.reach.status()
	}
	if !b.since.IsZero() {
		st.State, st.Since, st.Reason = "down", api.At(b.since), oneLine(b.why)
	}
	return st
}

func oneLine(err error) string {
	if err == nil {
		return ""
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
