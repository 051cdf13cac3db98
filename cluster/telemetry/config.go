package telemetry

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// Config says where and how much a Store keeps. Zero values mean the default given with each field.
type Config struct {
	Dir     string       // owned by the store alone; created when missing
	Cluster string       // becomes the label cluster of every series
	Log     *slog.Logger // nil discards

	Retention        time.Duration // age at which samples go; 15 d
	RetentionBytes   int64         // size of the blocks beyond which the oldest goes; 2 GiB
	OutOfOrderWindow time.Duration // how much older than the newest sample one may be; 7 d, negative for none
	MaxFuture        time.Duration // how far ahead of our clock a sample may be; 10 min
	ReserveBytes     int64         // free space on the disk below which nothing is taken; 128 MiB or a twentieth of the disk, whichever is less; negative for none

	QueueBatches     int           // batches that wait for the one being committed; 4096
	SeriesPerNode    int           // series a node may use within two hours; 8192
	SyncInterval     time.Duration // least time between two fsyncs of the log; 500 ms
	Query            QueryLimits
	Remotes          []Remote
	OnDamage         func(Damage)                                  // called for each loss found on opening, before Ready; nil for none
	OnReject         func(node string, why Reason, samples uint64) // told of samples that a node's good batches lost, each reason at most every ten minutes; nil for none
	Now              func() time.Time                              // the trusted clock; time.Now
	Doubt            func(future bool) error                       // why that clock cannot tell old from new, or, with future, what is ahead of it; then nothing is lost for it: ErrUnavailable. nil for none
	walSegmentBytes  int                                           // tests make it small
	minBlockDuration time.Duration                                 // tests make it small
}

// QueryLimits bound what a query may cost.
type QueryLimits struct {
	Timeout    time.Duration // 30 s
	MaxSamples int           // samples in memory at once; 10 million (160 MB)
	Concurrent int           // queries running at once; 8
	BodyBytes  int64         // size of a POSTed form; 1 MiB
}

// Remote is a remote-write 1.0 receiver.
type Remote struct {
	Name       string            // names its position on disk; an id as of api.ValidID
	URL        string            // http or https
	Headers    map[string]string // sent with each request
	BearerFile string            // read before each request, so a rotated token needs no restart; empty for none
	TLS        *tls.Config       // nil for the system's roots
	QueueBytes int64             // write-ahead log kept for it during an outage; 512 MiB
	Timeout    time.Duration     // of one request; 30 s
}

const (
	defaultRetention    = 15 * 24 * time.Hour
	defaultRetainBytes  = 2 << 30
	defaultOutOfOrder   = 7 * 24 * time.Hour
	defaultMaxFuture    = 10 * time.Minute
	defaultReserve      = 128 << 20
	reserveShare        = 20 // of a small disk, this part at most is kept free
	defaultQueue        = 4096
	defaultSeries       = 8192
	defaultSync         = 500 * time.Millisecond
	defaultRemoteQueue  = 512 << 20
	defaultTimeout      = 30 * time.Second
	defaultBlock        = 2 * time.Hour
	longestBlock        = 31 * 24 * time.Hour
	defaultWALSegment   = 32 << 20
	walPage             = 32 << 10
	defaultMaxSamples   = 10_000_000
	defaultConcurrent   = 8
	defaultBodyBytes    = 1 << 20
	maxPointsPerSeries  = 11_000
	lookback            = 5 * time.Minute
	defaultSubqueryStep = time.Minute
)

// complete returns c with its defaults filled in, or every fault in it.
func (c Config) complete() (Config, error) {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("telemetry dir is empty; wanted a directory"))
	}
	if err := api.ValidID("cluster", c.Cluster); err != nil {
		errs = append(errs, err)
	}
	if c.Retention < 0 || c.RetentionBytes < 0 || c.SyncInterval < 0 || c.MaxFuture < 0 || c.QueueBatches < 0 || c.SeriesPerNode < 0 {
		errs = append(errs, errors.New("telemetry config has a negative limit; wanted 0 for the default or more"))
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Doubt == nil {
		c.Doubt = func(bool) error { return nil }
	}
	set(&c.Retention, defaultRetention)
	set(&c.RetentionBytes, defaultRetainBytes)
	set(&c.OutOfOrderWindow, defaultOutOfOrder)
	set(&c.MaxFuture, defaultMaxFuture)
	set(&c.QueueBatches, defaultQueue)
	set(&c.SeriesPerNode, defaultSeries)
	set(&c.SyncInterval, defaultSync)
	set(&c.Query.Timeout, defaultTimeout)
	set(&c.Query.MaxSamples, defaultMaxSamples)
	set(&c.Query.Concurrent, defaultConcurrent)
	set(&c.Query.BodyBytes, defaultBodyBytes)
	set(&c.walSegmentBytes, defaultWALSegment)
	set(&c.minBlockDuration, defaultBlock)
	c.Remotes = slices.Clone(c.Remotes)
	seen := map[string]bool{}
	for i := range c.Remotes {
		if err := c.Remotes[i].complete(); err != nil {
			errs = append(errs, fmt.Errorf("remotes[%d]: %w", i, err))
		}
		if seen[c.Remotes[i].Name] {
			errs = append(errs, fmt.Errorf("remotes[%d]: name %q is taken; wanted one of its own", i, c.Remotes[i].Name))
		}
		seen[c.Remotes[i].Name] = true
	}
	return c, errors.Join(errs...)
}

func (r *Remote) complete() error {
	set(&r.QueueBytes, defaultRemoteQueue)
	set(&r.Timeout, defaultTimeout)
	u, err := url.Parse(r.URL)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		err = errors.New("wanted http:// or https:// and a host")
	}
	if err != nil {
		return fmt.Errorf("url %q: %w", r.URL, err)
	}
	if r.QueueBytes < 0 || r.Timeout < 0 {
		return errors.New("queue bytes and timeout: wanted no negative value")
	}
	for k, v := range r.Headers {
		if k == "" || strings.ContainsAny(k+v, "\r\n") {
			return fmt.Errorf("header %q: wanted a name and a value on one line", k)
		}
	}
	return api.ValidID("name", r.Name)
}

// set fills a zero value with its default.
func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
