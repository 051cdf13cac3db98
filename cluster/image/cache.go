package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// Config is what a Cache needs.
type Config struct {
	DB              *bbolt.DB
	Dir             string // of the blobs
	MaxBytes        int64  // of all blobs
	Upstreams       []Upstream
	OnlyListed      bool   // ask no registry but those of Upstreams
	CredentialsFile string // as docker login writes it; empty: none
	Fetches         int    // downloads from registries at a time; 0: 4
	Pulls           int    // blobs handed out at a time; 0: 256
	// Wanted lists the images, as desired documents name them, that must not be evicted; nil: none.
	Wanted func() ([]string, error)
	Log    *slog.Logger
	Now    func() time.Time // nil: time.Now
	// Fresh is how long the word of a registry on a tag is good; 0: 30 s.
	Fresh time.Duration
	// Stall bounds a silence of a registry, and of a client; 0: a minute.
	Stall time.Duration
}

// Cache keeps images. Safe for concurrent use.
type Cache struct {
	cfg     Config
	life    context.Context // of what goes on after the request that began it
	end     context.CancelFunc
	work    sync.WaitGroup
	fetches chan struct{}
	pulls   chan struct{}
	remote  *registries
	stats   stats

	mu        sync.Mutex
	bytes     int64 // of blobs, and of what is being fetched as far as its size is known
	blobs     map[string]int64
	refs      map[string]refRecord
	manifests map[string]*manifestRecord
	dirty     map[string]bool // manifests whose use is not on disk
	flights   map[string]*flight
	asking    map[string]*lookup
	children  map[string][]string // of a manifest: what it is made of, read once
}

// refRecord is what a name with a tag stands for.
type refRecord struct {
	Digest   string    `json:"digest"`
	Imported bool      `json:"imported,omitempty"`
	Checked  time.Time `json:"checked"` // when a registry last said so, or could not be asked
}

// manifestRecord is a manifest or index that is here.
type manifestRecord struct {
	MediaType string    `json:"mediaType"`
	Name      string    `json:"name"` // of the repository it came under
	Used      time.Time `json:"used"`
}

// stats are counted since the start.
type stats struct {
	hits, misses, failures, evicted, imports, refused  atomic.Uint64
	fetchedBytes, servedBytes, upstreamTries, repacked atomic.Uint64
}

// Stats is what a Cache tells of itself.
type Stats struct {
	Bytes, MaxBytes                            int64
	Blobs, Manifests, Names, Flights           int
	Hits, Misses, Failures, Evicted, Refused   uint64
	FetchedBytes, ServedBytes, Tries, Repacked uint64
	Imports                                    uint64
}

const (
	defaultFetches = 4
	defaultPulls   = 256
	defaultFresh   = 30 * time.Second
	defaultStall   = time.Minute
	keepParts      = 24 * time.Hour
	partSuffix     = ".part"
)

// Open makes or opens a cache. Run has to be called for it to end well.
func Open(ctx context.Context, cfg Config) (*Cache, error) {
	if cfg.DB == nil || cfg.Dir == "" || cfg.Log == nil || cfg.MaxBytes <= 0 {
		return nil, errors.New("image cache: wanted DB, Dir, Log and MaxBytes above 0")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Fetches, cfg.Pulls = cmp.Or(cfg.Fetches, defaultFetches), cmp.Or(cfg.Pulls, defaultPulls)
	cfg.Fresh, cfg.Stall = cmp.Or(cfg.Fresh, defaultFresh), cmp.Or(cfg.Stall, defaultStall)
	c := &Cache{cfg: cfg, fetches: make(chan struct{}, cfg.Fetches), pulls: make(chan struct{}, cfg.Pulls), blobs: map[string]int64{},
		refs: map[string]refRecord{}, manifests: map[string]*manifestRecord{}, dirty: map[string]bool{}, flights: map[string]*flight{},
		asking: map[string]*lookup{}, children: map[string][]string{}}
	c.life, c.end = context.WithCancel(context.WithoutCancel(ctx))
	var err error
	if c.remote, err = newRemote(cfg); err != nil {
		return nil, fmt.Errorf("image cache: %w", err)
	}
	for _, d := range []string{dirBlobs, dirTmp} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("image cache: %w", err)
		}
	}
	if err := errors.Join(c.sweep(), c.load()); err != nil {
		return nil, fmt.Errorf("image cache: %w", err)
	}
	return c, nil
}

const (
	dirBlobs = "blobs"
	dirTmp   = "tmp"
)

// sweep removes what was being made when the last process ended, but for parts that are young.
func (c *Cache) sweep() error {
	entries, err := os.ReadDir(filepath.Join(c.cfg.Dir, dirTmp))
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && strings.HasSuffix(e.Name(), partSuffix) && c.cfg.Now().Sub(info.ModTime()) < keepParts {
			continue
		}
		if err := os.RemoveAll(filepath.Join(c.cfg.Dir, dirTmp, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// load reads what is on the disk. Records of what is not there any more are dropped.
func (c *Cache) load() error {
	entries, err := os.ReadDir(filepath.Join(c.cfg.Dir, dirBlobs))
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		c.blobs[api.DigestPrefix+e.Name()] = info.Size()
		c.bytes += info.Size()
	}
	return c.loadRecords()
}

// Run keeps the records of use, and waits for what is under way when ctx ends.
func (c *Cache) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := c.flush(); err != nil {
				c.cfg.Log.Warn("use of images not noted", agent.KeyErr, err)
			}
		case <-ctx.Done():
			c.end()
			c.work.Wait()
			return c.flush()
		}
	}
}

// Stats tells how the cache is.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.stats
	return Stats{Bytes: c.bytes, MaxBytes: c.cfg.MaxBytes, Blobs: len(c.blobs), Manifests: len(c.manifests), Names: len(c.refs),
		Flights: len(c.flights), Hits: s.hits.Load(), Misses: s.misses.Load(), Failures: s.failures.Load(), Evicted: s.evicted.Load(),
		Refused: s.refused.Load(), FetchedBytes: s.fetchedBytes.Load(), ServedBytes: s.servedBytes.Load(), Tries: s.upstreamTries.Load(),
		Repacked: s.repacked.Load(), Imports: s.imports.Load()}
}

// blobPath is the file of a blob that is here.
func (c *Cache) blobPath(key string) string {
	return filepath.Join(c.cfg.Dir, dirBlobs, strings.TrimPrefix(key, api.DigestPrefix))
}

func (c *Cache) partPath(key string) string {
	return filepath.Join(c.cfg.Dir, dirTmp, strings.TrimPrefix(key, api.DigestPrefix)+partSuffix)
}

// size is that of a blob that is here.
func (c *Cache) size(key string) (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.blobs[key]
	return n, ok
}

// writeBlob puts content that fits into memory into the store, synced.
func (c *Cache) writeBlob(digest string, raw []byte) error {
	if _, ok := c.size(digest); ok {
		return nil
	}
	f, err := os.CreateTemp(filepath.Join(c.cfg.Dir, dirTmp), "manifest-")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = c.adopt(f.Name(), digest, int64(len(raw)))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// adopt gives a synced file its name in the store.
func (c *Cache) adopt(path, key string, size int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := os.Rename(path, c.blobPath(key)); err != nil {
		return err
	}
	if _, had := c.blobs[key]; !had {
		c.bytes += size
	}
	c.blobs[key] = size
	return syncDir(filepath.Join(c.cfg.Dir, dirBlobs))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
