package enroll

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// Nodes is told what enrolment decides: after the decision is stored and in the order of the decisions, one at a time,
// never from within a transaction. It must not call the Service.
type Nodes interface {
	// Enrolled says that n has a certificate. It is called before the device gets it, and again whenever the device
	// gets another, so it must be idempotent. An error keeps the certificate back; the device asks again.
	Enrolled(n api.Node) error
	// Merged says the same of a node that enrolled at another replica, a while ago: it may have connected since.
	Merged(n api.Node) error
	// Revoked says that no certificate of who that was good until now is any more: its sessions must end.
	Revoked(who mqtt.Identity)
}

// Config is what a Service needs. Endpoints are the https URLs of this service and MQTT the broker's URLs, both in
// order of preference and as devices reach them. Zero durations mean: Life 90 days, Grace 90 days, RetryAfter 10
// seconds.
type Config struct {
	Cluster       string
	Replica       string // which of several cluster agents this is; empty: it is the only one
	Root          string // of the topics; empty means skerry/v1
	Endpoints     []string
	MQTT          []string
	Life          time.Duration // of a node's certificate
	Grace         time.Duration // for which an expired certificate may still be renewed
	RetryAfter    time.Duration // between the questions of a device that waits for approval
	ApproveRejoin bool          // a known node with a new key may wait for approval whatever its token says
	DB            *bbolt.DB
	Authority     *Authority
	Nodes         Nodes
	Log           *slog.Logger
	Now           func() time.Time // nil means time.Now
	// Presence tells how a node is now; empty when it is not known. Nil knows of none. It must not call the Service.
	Presence func(node string) api.Presence
}

// Service admits devices. Safe for concurrent use.
type Service struct {
	cfg    Config
	limits *limiter

	tell sync.Mutex // held while a decision is stored and told, so that Nodes hears them in order

	mu        sync.Mutex
	endpoints []string
	brokers   []string
	peers     []string // https URLs of other replicas
	counts    map[string]uint64
	own       *ownCertificate // the cluster agent's, on an external broker
}

// Open prepares a service on its store: it creates its buckets, and refuses a store whose certificates were issued by
// an authority other than the one given.
func Open(cfg Config) (*Service, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("enrolment: %w", err)
	}
	s := &Service{cfg: cfg, limits: newLimiter(), counts: make(map[string]uint64)}
	if err := s.Advertise(cfg.Endpoints, cfg.MQTT); err != nil {
		return nil, fmt.Errorf("enrolment: %w", err)
	}
	err := cfg.DB.Update(func(tx *bbolt.Tx) error {
		for _, name := range allBuckets() {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return fmt.Errorf("create bucket %s: %w", name, err)
			}
		}
		return s.sameAuthority(tx)
	})
	if err != nil {
		return nil, fmt.Errorf("enrolment: %w", err)
	}
	return s, nil
}

func (c *Config) complete() error {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Root == "" {
		c.Root = "skerry/v1"
	}
	for _, d := range []struct {
		field *time.Duration
		name  string
		zero  time.Duration
	}{{&c.Life, "life", 90 * 24 * time.Hour}, {&c.Grace, "grace", 90 * 24 * time.Hour},
		{&c.RetryAfter, "retry after", 10 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.zero
		}
		if *d.field < 0 {
			return fmt.Errorf("%s %s: wanted no negative duration", d.name, *d.field)
		}
	}
	if c.Life < time.Minute {
		return fmt.Errorf("life %s: wanted at least a minute", c.Life)
	}
	if c.DB == nil || c.Authority == nil || c.Nodes == nil || c.Log == nil {
		return errors.New("a store, an authority, nodes and a log are needed")
	}
	if c.Authority.cfg.Cluster != c.Cluster {
		return fmt.Errorf("cluster %q: the authority belongs to %q", c.Cluster, c.Authority.cfg.Cluster)
	}
	return nil
}

// sameAuthority notes the roots beside what they issued. A store whose roots have all gone would mean a fleet that
// nobody can talk to any more, which is better learned at the start.
func (s *Service) sameAuthority(tx *bbolt.Tx) error {
	var now rootsRecord
	for _, cert := range s.cfg.Authority.Roots() {
		sum := sha256.Sum256(cert.Raw)
		now.SHA256 = append(now.SHA256, hex.EncodeToString(sum[:]))
	}
	known, found, err := get[rootsRecord](tx, bucketMeta, metaRoots)
	if err != nil {
		return err
	}
	if found && !slices.ContainsFunc(known.SHA256, func(sum string) bool { return slices.Contains(now.SHA256, sum) }) {
		return fmt.Errorf("store %s belongs to the CA with SHA-256 %s, while %s holds another (%s); restore the CA "+
			"directory from a backup, or move the store away too and have every device join again",
			s.cfg.DB.Path(), known.SHA256[0], s.cfg.Authority.cfg.Dir, now.SHA256[0])
	}
	if slices.Equal(known.SHA256, now.SHA256) {
		return nil
	}
	return put(tx, bucketMeta, metaRoots, now)
}

// maxEndpoints is how many URLs a join string or a reply carries of a kind.
const maxEndpoints = 8

// Advertise replaces the URLs that new join strings and replies carry.
func (s *Service) Advertise(endpoints, brokers []string) error {
	for _, e := range endpoints {
		if u, err := url.Parse(e); err != nil || u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("endpoint %q: wanted https://host:port", e)
		}
	}
	for _, b := range brokers {
		if u, err := url.Parse(b); err != nil || u.Scheme == "" || u.Host == "" {
			return fmt.Errorf("mqtt URL %q: wanted mqtts://host:port", b)
		}
	}
	if len(endpoints) == 0 || len(endpoints) > maxEndpoints || len(brokers) == 0 || len(brokers) > maxEndpoints {
		return fmt.Errorf("%d endpoints and %d mqtt URLs; wanted 1 to %d each", len(endpoints), len(brokers), maxEndpoints)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints, s.brokers = slices.Clone(endpoints), slices.Clone(brokers)
	return nil
}

func (s *Service) addresses() (endpoints, brokers []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endpoints, s.brokers
}

func (s *Service) now() time.Time { return s.cfg.Now() }

// count notes an outcome: issued, renewed, pending, or the code of a problem.
func (s *Service) count(outcome string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[outcome]++
}

// Counts returns how often each outcome happened since the start: issued, renewed, pending, or the code of a problem.
func (s *Service) Counts() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

const (
	sweepEvery  = time.Hour
	pendingLife = 7 * 24 * time.Hour
	// tokenRetention keeps a token past its expiry: as long as a device that asked in time may wait for approval.
	tokenRetention = pendingLife
)

// Run deletes what has had its time, every hour, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	for {
		if err := s.Sweep(); err != nil {
			s.cfg.Log.Error("sweep of enrolment records failed", agent.KeyErr, err)
		}
		if !agent.Wait(ctx, agent.Jitter(sweepEvery, 0.1)) {
			return nil
		}
	}
}

// Sweep deletes expired tokens, devices that waited in vain, and what is known of certificates that nobody could use
// any more. Deleting never admits anybody: a certificate whose record is gone is refused.
func (s *Service) Sweep() error {
	now := s.now()
	over := func(m api.Millis, after time.Duration) bool { return now.After(m.Time().Add(after)) }
	return s.cfg.DB.Update(func(tx *bbolt.Tx) error {
		_, tokens := sweep(tx, bucketTokens, func(t tokenRecord) bool { return over(t.Expires, tokenRetention) })
		_, pending := sweep(tx, bucketPending, func(p pendingRecord) bool { return over(p.Requested, pendingLife) })
		_, revoked := sweep(tx, bucketRevoked, func(r revokedRecord) bool { return over(r.NotAfter, s.cfg.Grace) })
		_, operators := sweep(tx, bucketOperators, func(o operatorRecord) bool { return over(o.Certificate.NotAfter, 0) })
		_, nodes := sweep(tx, bucketNodes, func(n nodeRecord) bool { return s.forgettable(n, now) })
		return errors.Join(tokens, pending, revoked, operators, nodes)
	})
}
