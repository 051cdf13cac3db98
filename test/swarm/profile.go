package swarm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// Profile says what the simulated nodes are like. Shares are fractions, 0 to 1, of all nodes.
type Profile struct {
	Nodes     int           `yaml:"nodes"`
	Prefix    string        `yaml:"prefix"`     // of the node ids
	Cadence   time.Duration `yaml:"cadence"`    // between two rows of a node
	BatchRows int           `yaml:"batch_rows"` // rows in a batch
	Series    int           `yaml:"series"`     // per node
	Encoding  string        `yaml:"encoding"`   // json, cbor
	Churn     Churn         `yaml:"churn"`
	Sleep     Sleep         `yaml:"sleep"`
	Slow      Slow          `yaml:"slow"`
	Workloads Workloads     `yaml:"workloads"`
	Handlers  []Handler     `yaml:"handlers"`
	Outbox    Outbox        `yaml:"outbox"`
	Link      Link          `yaml:"link"`
}

// Churn disconnects nodes at random, and lets them return.
type Churn struct {
	PerMinute float64       `yaml:"per_minute"` // share of the nodes
	Reset     float64       `yaml:"reset"`      // share of the disconnections that are TCP resets, the others say goodbye
	Away      time.Duration `yaml:"away"`       // after a goodbye; a reset node returns by its own backoff
}

// Sleep has some nodes say that they sleep, and be gone until they wake. They measure nothing meanwhile.
type Sleep struct {
	Share  float64       `yaml:"share"`
	Awake  time.Duration `yaml:"awake"`
	Asleep time.Duration `yaml:"asleep"`
}

// Slow gives some nodes a bad line.
type Slow struct {
	Share          float64       `yaml:"share"`
	BytesPerSecond int           `yaml:"bytes_per_second"` // each way
	Latency        time.Duration `yaml:"latency"`          // one way, of what the node sends
}

// Workloads says what nodes make of the workloads in a desired document.
type Workloads struct {
	Reject   float64       `yaml:"reject"`   // share of the nodes that refuse all
	Delay    time.Duration `yaml:"delay"`    // before the report
	Runtimes []string      `yaml:"runtimes"` // that the nodes announce: with one, they become nodes of a Kubernetes cluster
}

// Handler is a verb.
type Handler struct {
	Verb     string        `yaml:"verb"`
	Duration time.Duration `yaml:"duration"` // spread by half of it
	Fail     float64       `yaml:"fail"`     // share of the runs
	Retry    bool          `yaml:"retry"`    // may run again after a restart of the node agent
}

// Outbox says where unacknowledged messages are kept, and how many. Store is memory or disk.
type Outbox struct {
	Store                string        `yaml:"store"`
	MemoryBytes          int64         `yaml:"memory_bytes"`
	MaxBytes             int64         `yaml:"max_bytes"` // in flash; disk only
	AckTimeout           time.Duration `yaml:"ack_timeout"`
	ReplayBytesPerSecond int64         `yaml:"replay_bytes_per_second"`
}

// Link is the MQTT link.
type Link struct {
	KeepAlive   time.Duration `yaml:"keepalive"`
	BackoffMax  time.Duration `yaml:"backoff_max"`
	StableAfter time.Duration `yaml:"stable_after"`
}

// DefaultProfile is a quiet fleet.
func DefaultProfile() Profile {
	return Profile{Nodes: 100, Prefix: "swarm", Cadence: 30 * time.Second, BatchRows: 1, Series: 20, Encoding: "json",
		Churn: Churn{Reset: 0.5, Away: 5 * time.Second}, Sleep: Sleep{Awake: time.Minute, Asleep: time.Minute},
		Slow: Slow{BytesPerSecond: 4 << 10, Latency: 300 * time.Millisecond}, Handlers: []Handler{{Verb: "work", Duration: 200 * time.Millisecond}},
		Outbox: Outbox{Store: "memory", MemoryBytes: 256 << 10, MaxBytes: 16 << 20, AckTimeout: 30 * time.Second, ReplayBytesPerSecond: 64 << 10},
		Link:   Link{KeepAlive: time.Minute, BackoffMax: 5 * time.Minute, StableAfter: time.Minute}}
}

// ParseProfile lays the YAML over the defaults. The error names every fault; fields that it does not know are faults.
func ParseProfile(text []byte) (Profile, error) {
	p := DefaultProfile()
	if err := strict(text, &p); err != nil {
		return p, fmt.Errorf("profile: %w", err)
	}
	return p, p.Validate()
}

// strict decodes one YAML document.
func strict(text []byte, out any) error {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(out); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// faults gathers everything that is wrong.
type faults []error

func (f *faults) need(ok bool, field string, value any, wanted string) {
	if !ok {
		*f = append(*f, fmt.Errorf("%s %v: wanted %s", field, value, wanted))
	}
}

func (f *faults) share(field string, v float64) {
	f.need(v >= 0 && v <= 1, field, v, "a share from 0 to 1")
}

// Validate returns every fault of p.
func (p *Profile) Validate() error {
	var bad faults
	bad.need(p.Nodes >= 1 && p.Nodes <= account.MaxNodes, "nodes", p.Nodes, fmt.Sprintf("1 to %d", account.MaxNodes))
	bad.need(api.ValidID("prefix", p.Prefix) == nil && len(p.Prefix) <= 40, "prefix", p.Prefix, "[a-z0-9][a-z0-9.-]{0,39}")
	bad.need(p.Cadence >= 10*time.Millisecond, "cadence", p.Cadence, "at least 10ms")
	bad.need(p.Series >= 1 && p.Series <= account.MaxSeries, "series", p.Series, fmt.Sprintf("1 to %d", account.MaxSeries))
	bad.need(p.BatchRows >= 1 && p.BatchRows*p.Series*20+p.Series*16 < 100<<10, "batch_rows", p.BatchRows,
		"at least 1, and a batch that fits one message: rows × series below about 4,500")
	_, err := mqtt.ParseEncoding(p.Encoding)
	bad.need(err == nil, "encoding", p.Encoding, "json or cbor")
	bad.need(p.Churn.PerMinute >= 0 && p.Churn.PerMinute <= 60, "churn.per_minute", p.Churn.PerMinute, "0 to 60")
	bad.share("churn.reset", p.Churn.Reset)
	bad.need(p.Churn.Away >= 0, "churn.away", p.Churn.Away, "no negative duration")
	bad.share("sleep.share", p.Sleep.Share)
	bad.need(p.Sleep.Share == 0 || p.Sleep.Awake > 0 && p.Sleep.Asleep > 0, "sleep", p.Sleep, "awake and asleep above zero")
	bad.share("slow.share", p.Slow.Share)
	bad.need(p.Slow.Share == 0 || p.Slow.BytesPerSecond >= 100, "slow.bytes_per_second", p.Slow.BytesPerSecond, "at least 100")
	bad.need(p.Slow.Latency >= 0 && p.Slow.Latency <= 10*time.Second, "slow.latency", p.Slow.Latency, "0 to 10s")
	bad.share("workloads.reject", p.Workloads.Reject)
	bad.need(p.Workloads.Delay >= 0, "workloads.delay", p.Workloads.Delay, "no negative duration")
	for i, name := range p.Workloads.Runtimes {
		bad.need(api.ValidID("runtime", name) == nil, fmt.Sprintf("workloads.runtimes[%d]", i), name, "a name such as simulated")
	}
	p.validateHandlers(&bad)
	o := p.Outbox
	bad.need(o.Store == "memory" || o.Store == "disk", "outbox.store", o.Store, "memory or disk")
	bad.need(o.MemoryBytes >= 4<<10, "outbox.memory_bytes", o.MemoryBytes, "at least 4096")
	bad.need(o.MaxBytes >= 64<<10, "outbox.max_bytes", o.MaxBytes, "at least 65536")
	bad.need(o.AckTimeout > 0, "outbox.ack_timeout", o.AckTimeout, "above zero")
	bad.need(o.ReplayBytesPerSecond > 0, "outbox.replay_bytes_per_second", o.ReplayBytesPerSecond, "above zero")
	l := p.Link
	bad.need(l.KeepAlive >= time.Second && l.KeepAlive%time.Second == 0, "link.keepalive", l.KeepAlive, "whole seconds")
	bad.need(l.BackoffMax > 0, "link.backoff_max", l.BackoffMax, "above zero")
	bad.need(l.StableAfter > 0, "link.stable_after", l.StableAfter, "above zero")
	return errors.Join(bad...)
}

func (p *Profile) validateHandlers(bad *faults) {
	seen := map[string]bool{"cancel": true}
	for i, h := range p.Handlers {
		field := fmt.Sprintf("handlers[%d].", i)
		bad.need(api.ValidID("verb", h.Verb) == nil && !seen[h.Verb], field+"verb", h.Verb, "a verb of its own, and not cancel")
		seen[h.Verb] = true
		bad.need(h.Duration >= 0 && h.Duration <= time.Hour, field+"duration", h.Duration, "0 to 1h")
		bad.share(field+"fail", h.Fail)
	}
}
