package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/time/rate"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/access"
	"github.com/skerry-edge/skerry/cluster/clock"
	"github.com/skerry-edge/skerry/cluster/command"
	"github.com/skerry-edge/skerry/cluster/enroll"
	"github.com/skerry-edge/skerry/cluster/image"
	"github.com/skerry-edge/skerry/cluster/kube"
	"github.com/skerry-edge/skerry/cluster/mirror"
	"github.com/skerry-edge/skerry/cluster/registry"
	"github.com/skerry-edge/skerry/cluster/rollout"
	"github.com/skerry-edge/skerry/cluster/telemetry"
	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/mqtt"
)

// Agent is the cluster agent. New builds it, Run is called once.
type Agent struct {
	cfg     configs.Cluster
	log     *slog.Logger
	own     *ownLog
	started time.Time
	topics  mqtt.Topics
	codec   *mqtt.Codec

	clock      *clock.Clock
	wall       func() time.Time     // the machine's; tests set it
	uptime     func() time.Duration // and this
	authority  *enroll.Authority
	listener   *enroll.Listener
	enroll     *enroll.Service
	tokens     *access.Tokens
	audit      *access.Audit
	oidc       *access.OIDC // nil: no identity provider
	strangers  *rate.Limiter
	unwritten  atomic.Uint64 // refusals that the audit log was spared
	forgers    *forgers
	registry   *registry.Registry
	journal    *command.Journal
	telemetry  *telemetry.Store
	acks       *acks
	streams    *streams
	requesters *requesters
	images     *image.Cache // nil: none are kept
	mirrored   *mirror.Mirror
	rollout    *rollout.Store
	versions   sync.Mutex // held while it is decided which version nodes are to have
	wire       transport
	share      *share       // nil: this is the only cluster agent
	kube       *kube.Bridge // nil: standalone
	brokerUp   atomic.Bool
	brokerEnds atomic.Int64    // when the external broker's certificate does, in seconds since 1970; 0: not known
	life       context.Context // Run's, for calls that bring no context of their own
	samples    atomic.Uint64
	deferral   deferral
	badLabels  badLabels

	https net.Listener
}

// transport is the broker, embedded or external.
type transport interface {
	agent.Runner
	agent.Readier
	Publish(ctx context.Context, topic string, payload []byte, retain bool) error
	// Kick ends the sessions of a client, by common name.
	Kick(commonName string)
	// Port is the port that nodes connect to.
	Port() string
}

// strangersBurst is how many refusals of callers without credentials the audit log takes at once, and one a second after
// that: anybody can make them, each costs a write to disk, and the log is bounded, so they would push out what counts.
const strangersBurst = 100

// New checks cfg; the log goes to w.
func New(cfg configs.Cluster, w io.Writer) (*Agent, error) {
	var level slog.LevelVar
	if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	own := &ownLog{}
	log, err := agent.NewLogger(io.MultiWriter(own, agent.ForJournal(w)), &level, cfg.Log.Format)
	if err != nil {
		return nil, err
	}
	a := &Agent{cfg: cfg, log: log, own: own, started: time.Now(), wall: time.Now, uptime: agent.SinceBoot, strangers: rate.NewLimiter(1, strangersBurst), forgers: newForgers()}
	if a.topics, err = mqtt.NewTopics(cfg.MQTT.Root, cfg.Cluster); err != nil {
		return nil, err
	}
	if a.codec, err = mqtt.NewCodec(); err != nil {
		return nil, err
	}
	if o := cfg.HTTP.OIDC; o.Issuer != "" {
		a.oidc, err = access.NewOIDC(access.OIDCConfig{Issuer: o.Issuer, ClientID: o.ClientID, UsernameClaim: o.UsernameClaim,
			GroupsClaim: o.GroupsClaim, Roles: access.RolesOf(o.Roles.Viewer, o.Roles.Operator, o.Roles.Admin), CAFile: o.CAFile, Log: log})
		if err != nil {
			return nil, fmt.Errorf("http.oidc: %w", err)
		}
	}
	return a, nil
}

// Run works until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	a.life = ctx
	db, err := openStore(a.cfg.Dir)
	if err != nil {
		return err
	}
	defer func() {
		if err := db.Close(); err != nil {
			a.log.Error("store not closed", agent.KeyErr, err)
		}
	}()
	if err := a.build(ctx, db); err != nil {
		return err
	}
	rest, err := a.newREST()
	if err != nil {
		return err
	}
	g := &agent.Group{Log: a.log}
	g.Stage("stores", a.clock, a.registry, a.telemetry, a.enroll)
	g.Stage("broker", a.wire, a.acks)
	if a.share != nil {
		g.Stage("share", a.share)
	}
	g.Stage("commands", a.journal)
	if a.images != nil {
		g.Stage("images", a.images)
	}
	top := []agent.Runner{rest, rollouts{a}, agent.RunFunc(a.mirror), agent.RunFunc(a.announce), newTrimmer()}
	if a.oidc != nil {
		top = append(top, a.oidc)
	}
	if a.kube = a.newKube(); a.kube != nil {
		top = append(top, a.kube)
	}
	g.Stage("rest", top...)
	return g.Run(ctx)
}

func (a *Agent) build(ctx context.Context, db *bbolt.DB) error {
	var err error
	if a.clock, err = clock.Open(clock.Config{DB: db, Floor: agent.BuildTime(), Log: a.log, Wall: a.wall, Uptime: a.uptime, OnStray: a.onStray, OnStep: a.onStep}); err != nil {
		return err
	}
	if a.authority, err = enroll.OpenAuthority(ctx, enroll.AuthorityConfig{Dir: a.cfg.Dir, Cluster: a.cfg.Cluster, Now: a.clock.Now,
		Overlap: a.cfg.Enroll.CertificateLife}); err != nil {
		return err
	}
	names, err := a.advertised()
	if err != nil {
		return err
	}
	if a.listener, err = enroll.NewListener(a.authority, append(names, "localhost", "127.0.0.1", "::1")...); err != nil {
		return err
	}
	if a.https, err = (&net.ListenConfig{}).Listen(ctx, "tcp", a.cfg.HTTP.Listen); err != nil {
		return fmt.Errorf("listen for HTTPS: %w", err)
	}
	if err := a.buildStores(db); err != nil {
		return errors.Join(err, a.https.Close())
	}
	if err := a.buildWire(ctx); err != nil {
		return errors.Join(err, a.https.Close())
	}
	if a.images, err = a.openImages(ctx, db); err != nil {
		return errors.Join(err, a.https.Close())
	}
	if a.mirrored, err = a.openMirror(); err != nil {
		return errors.Join(err, a.https.Close())
	}
	return nil
}

func (a *Agent) buildStores(db *bbolt.DB) error {
	var err error
	a.registry, err = registry.New(registry.Config{DB: db, Cluster: a.cfg.Cluster, LostAfter: a.cfg.Nodes.LostAfter, Log: a.log,
		KeepEvents: a.cfg.Events.Keep, KeepFor: a.cfg.Events.KeepFor, DesiredValid: desiredValidity, Now: a.clock.Now})
	if err != nil {
		return err
	}
	if err := a.registry.Load(); err != nil {
		return err
	}
	a.enroll, err = enroll.Open(enroll.Config{Cluster: a.cfg.Cluster, Replica: a.cfg.Replica.Name, Root: a.topics.Root, DB: db, Authority: a.authority, Nodes: a, Log: a.log,
		Life: a.cfg.Enroll.CertificateLife, Grace: a.cfg.Enroll.RenewGrace, ApproveRejoin: true, Now: a.clock.Now,
		Presence:  a.presence,
		Endpoints: a.endpoints(a.https.Addr()), MQTT: a.urls("mqtts", ":8883")}) // the broker's port follows, before anybody can ask
	if err != nil {
		return err
	}
	if a.tokens, err = access.OpenTokens(db, a.clock.Now); err != nil {
		return err
	}
	if a.audit, err = access.OpenAudit(db, access.Bounds{}, a.clock.Now); err != nil {
		return err
	}
	keepUnknown := time.Duration(0)
	if a.cfg.Replica.Name != "" {
		keepUnknown = a.cfg.Commands.MaxDeadline + a.cfg.Commands.Grace
	}
	a.journal, err = command.New(command.Config{KeepUnknown: keepUnknown, DB: db, Nodes: a.registry, Deliverer: a, Log: a.log, Grace: a.cfg.Commands.Grace,
		MaxWait: a.cfg.Commands.MaxDeadline, KeepFinals: a.cfg.Commands.Keep, KeepFor: a.cfg.Commands.KeepFor, Now: a.clock.Now})
	if err != nil {
		return err
	}
	if err := a.journal.Load(); err != nil {
		return err
	}
	t := a.cfg.Telemetry
	tc := telemetry.Config{Dir: filepath.Join(a.cfg.Dir, "tsdb"), Cluster: a.cfg.Cluster, Log: a.log, Retention: t.Retention,
		RetentionBytes: int64(t.RetentionBytes), ReserveBytes: int64(t.Reserve), OutOfOrderWindow: t.OutOfOrder, Query: telemetry.QueryLimits{Timeout: t.QueryTimeout},
		OnDamage: a.onDamage, OnReject: a.onReject, Now: a.clock.Now, Doubt: a.clock.Doubt}
	for _, r := range t.RemoteWrite {
		sum := sha256.Sum256([]byte(r.URL)) // its place in the log is kept under its name, wherever it stands in the list
		tc.Remotes = append(tc.Remotes, telemetry.Remote{Name: fmt.Sprintf("r%x", sum[:6]), URL: r.URL, BearerFile: r.BearerFile})
	}
	if a.telemetry, err = telemetry.New(tc); err != nil {
		return err
	}
	if a.rollout, err = rollout.Open(db); err != nil {
		return err
	}
	a.acks = newAcks(a, a.clock.Now)
	a.telemetry.OnSync(a.acks.synced)
	a.streams = newStreams(a)
	a.requesters = newRequesters(a)
	return nil
}

// onDamage tells of what the telemetry store lost.
func (a *Agent) onDamage(d telemetry.Damage) {
	a.note(api.ClassAlarm, "telemetry.damaged", "tsdb", fmt.Sprint(d))
}

// note puts an event of the cluster agent itself into the event log.
func (a *Agent) note(class api.Class, kind, object, message string) {
	a.noteOf("", class, kind, object, message)
}

// noteOf is note about a node.
func (a *Agent) noteOf(node string, class api.Class, kind, object, message string) {
	err := a.registry.Events().Append(api.EventRecord{Node: node, At: api.At(a.clock.Now()), Class: class, Kind: kind, Object: object, Message: message})
	if err != nil {
		a.log.Warn("event not kept", agent.KeyReason, message, agent.KeyErr, err)
	}
}

// announce tells the service manager that the agent is up.
func (a *Agent) announce(ctx context.Context) error {
	if err := agent.Notify("READY=1\nSTATUS=running"); err != nil {
		a.log.Warn("service manager does not listen", agent.KeyErr, err)
	}
	a.log.Info("cluster agent is up", agent.KeyCluster, a.cfg.Cluster, agent.KeyAddr, a.https.Addr().String(), agent.KeyVersion, agent.Version())
	return agent.Watchdog(ctx, a.ready)
}

// ready is nil when the agent can do its work.
func (a *Agent) ready() error {
	if !a.brokerUp.Load() {
		return errors.New("broker is not up")
	}
	select {
	case <-a.telemetry.Ready():
	default:
		return errors.New("telemetry store is not open")
	}
	return nil
}
