package configs

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/agent/release"
	"github.com/skerry-edge/skerry/api"
)

// Edge is the configuration of skerry-edge; edge.yaml documents the fields.
type Edge struct {
	Node       string        `mapstructure:"node"`
	Join       string        `mapstructure:"join"`
	Dir        string        `mapstructure:"dir"`
	RuntimeDir string        `mapstructure:"runtime_dir"`
	Labels     []string      `mapstructure:"labels"`
	Autonomy   time.Duration `mapstructure:"autonomy"`
	Log        Log           `mapstructure:"log"`
	MQTT       EdgeMQTT      `mapstructure:"mqtt"`
	Telemetry  Telemetry     `mapstructure:"telemetry"`
	Outbox     Outbox        `mapstructure:"outbox"`
	Command    Command       `mapstructure:"command"`
	Workloads  Workloads     `mapstructure:"workloads"`
	K3s        K3s           `mapstructure:"k3s"`
	Update     Update        `mapstructure:"update"`
}

// Log says how to log.
type Log struct {
	Level  string `mapstructure:"level"`
	Format string `mapstructure:"format"`
}

// EdgeMQTT is the link of a node.
type EdgeMQTT struct {
	Servers     []string      `mapstructure:"servers"`
	Encoding    string        `mapstructure:"encoding"`
	KeepAlive   time.Duration `mapstructure:"keep_alive"`
	BackoffMax  time.Duration `mapstructure:"backoff_max"`
	StableAfter time.Duration `mapstructure:"stable_after"`
}

// Telemetry is what a node measures.
type Telemetry struct {
	Interval  time.Duration `mapstructure:"interval"`
	BatchRows int           `mapstructure:"batch_rows"`
	Disabled  []string      `mapstructure:"disabled"`
	MaxSeries int           `mapstructure:"max_series"`
	Proc      string        `mapstructure:"proc"`
	Sys       string        `mapstructure:"sys"`
	User      []UserProbe   `mapstructure:"user"`
}

// UserProbe is a probe of the user's own.
type UserProbe struct {
	Name     string        `mapstructure:"name"`
	Kind     string        `mapstructure:"kind"`
	Argv     []string      `mapstructure:"argv"`
	Path     string        `mapstructure:"path"`
	URL      string        `mapstructure:"url"`
	Metric   string        `mapstructure:"metric"`
	Scale    float64       `mapstructure:"scale"`
	Interval time.Duration `mapstructure:"interval"`
	Timeout  time.Duration `mapstructure:"timeout"`
	Allow    []string      `mapstructure:"allow"`
}

// Outbox bounds what a node keeps until it is acknowledged.
type Outbox struct {
	MaxBytes             Bytes         `mapstructure:"max_bytes"`
	MaxAge               time.Duration `mapstructure:"max_age"`
	MemoryBytes          Bytes         `mapstructure:"memory_bytes"`
	SpillAfter           time.Duration `mapstructure:"spill_after"`
	ReplayBytesPerSecond Bytes         `mapstructure:"replay_bytes_per_second"`
}

// Command is what a node may be commanded to do. None of it can be set remotely.
type Command struct {
	Concurrency  int      `mapstructure:"concurrency"`
	Exec         []Exec   `mapstructure:"exec"`
	Read         []string `mapstructure:"read"`
	Write        []string `mapstructure:"write"`
	Logs         []string `mapstructure:"logs"`
	MaxFileBytes Bytes    `mapstructure:"max_file_bytes"`
	AllowReboot  bool     `mapstructure:"allow_reboot"`
}

// Workloads is what a node runs for others. None of it can be set remotely.
type Workloads struct {
	Enabled     bool     `mapstructure:"enabled"`
	Dir         string   `mapstructure:"dir"`
	Runtimes    []string `mapstructure:"runtimes"`
	HostPaths   []string `mapstructure:"host_paths"`
	Privileged  bool     `mapstructure:"privileged"`
	MaxLogBytes Bytes    `mapstructure:"max_log_bytes"`
	// ModuleTime is how long a WebAssembly module may run; 0: for ever.
	ModuleTime time.Duration `mapstructure:"module_time"`
	// Containerd is the socket of a containerd; empty: that of the first of its usual places that is there.
	Containerd string `mapstructure:"containerd"`
}

// K3s is whether and how a node becomes a k3s agent. None of it can be set remotely.
type K3s struct {
	Allow   bool     `mapstructure:"allow"`
	Program string   `mapstructure:"program"`
	Args    []string `mapstructure:"args"`
	DataDir string   `mapstructure:"data_dir"`
}

// Update is how a node's own program is replaced. None of it can be set remotely.
type Update struct {
	Dir    string        `mapstructure:"dir"`
	Keys   []string      `mapstructure:"keys"`
	Window time.Duration `mapstructure:"window"`
}

// Exec is one entry of the allow-list of the verb exec.
type Exec struct {
	Name    string            `mapstructure:"name"`
	Argv    []string          `mapstructure:"argv"`
	Args    []string          `mapstructure:"args"`
	User    string            `mapstructure:"user"`
	Dir     string            `mapstructure:"dir"`
	Env     map[string]string `mapstructure:"env"`
	Timeout time.Duration     `mapstructure:"timeout"`
}

// EdgeEnvPrefix begins the environment variables of skerry-edge.
const EdgeEnvPrefix = "SKERRY_EDGE_"

// Check tells what else is wrong with a configuration, which takes knowing what is configured: the field, its value and what was wanted.
type Check func(cfg *Edge, tell func(field string, value any, wanted string))

// LoadEdge returns the configuration of skerry-edge, or every fault in it, those that check finds too.
func LoadEdge(src Source, check ...Check) (Edge, error) {
	var cfg Edge
	l, err := load(edgeDefaults, EdgeEnvPrefix, src, &cfg)
	if err != nil {
		return cfg, err
	}
	return cfg, l.finish(func(bad *faults) {
		cfg.validate(bad)
		for _, c := range check {
			c(&cfg, bad.add)
		}
	})
}

// RemoteKeys lists the keys that may be set remotely. What decides who may do what on the device stays with whoever
// holds the device.
func RemoteKeys() []string {
	return []string{"autonomy", "labels", "log.level", "mqtt.servers", "mqtt.encoding", "mqtt.keep_alive", "mqtt.backoff_max",
		"mqtt.stable_after", "telemetry.interval", "telemetry.batch_rows", "telemetry.disabled", "telemetry.max_series",
		"outbox.max_bytes", "outbox.max_age", "outbox.memory_bytes", "outbox.spill_after", "outbox.replay_bytes_per_second"}
}

// WhyNotRemote tells why key is none of RemoteKeys.
func WhyNotRemote(key string) string {
	section, _, _ := strings.Cut(key, ".")
	switch {
	case key == "node" || key == "join":
		return "who a node is was settled when it enrolled; join it again to change that"
	case key == "dir" || key == "runtime_dir":
		return "identity, journal and backlog lie there and are open while the agent runs; stop it, move them, and change the file"
	case slices.Contains([]string{"command", "workloads", "k3s", "update"}, section) || key == "telemetry.user":
		return "what this device runs, reads and writes for others is decided on the device"
	case key == "telemetry.proc" || key == "telemetry.sys" || key == "log.format":
		return "it describes the machine around the agent; change the file, then run agent.restart"
	}
	return fmt.Sprintf("there is no such setting; these can be set: %s", strings.Join(RemoteKeys(), ", "))
}

// Validate returns every fault of c.
func (c *Edge) Validate() error {
	var bad faults
	c.validate(&bad)
	return bad.err()
}

func (c *Edge) validate(bad *faults) {
	if c.Node != "" {
		bad.need(api.ValidID("node", c.Node) == nil, "node", c.Node, "[a-z0-9][a-z0-9.-]{0,62}")
	}
	bad.need(filepath.IsAbs(c.Dir), "dir", c.Dir, "an absolute path")
	bad.need(filepath.IsAbs(c.RuntimeDir), "runtime_dir", c.RuntimeDir, "an absolute path")
	for _, l := range c.Labels {
		key, _, ok := strings.Cut(l, "=")
		bad.need(ok && key != "" && len(l) <= api.MaxLabelBytes, "labels", l, "key=value")
	}
	bad.need(c.Autonomy >= time.Minute, "autonomy", c.Autonomy, "at least 1m")
	c.Log.validate(bad)
	c.MQTT.validate(bad)
	c.Telemetry.validate(bad)
	c.Outbox.validate(bad)
	c.Command.validate(bad)
	c.Workloads.validate(bad)
	bad.need(filepath.IsAbs(c.K3s.Program), "k3s.program", c.K3s.Program, "an absolute path")
	bad.need(filepath.IsAbs(c.K3s.DataDir), "k3s.data_dir", c.K3s.DataDir, "an absolute path")
	c.Update.validate(bad)
}

func (l Log) validate(bad *faults) {
	bad.need(slices.Contains([]string{"debug", "info", "warn", "error"}, l.Level), "log.level", l.Level, "debug, info, warn or error")
	bad.need(l.Format == "text" || l.Format == "json", "log.format", l.Format, "text or json")
}

func (m EdgeMQTT) validate(bad *faults) {
	for _, s := range m.Servers {
		u, err := url.Parse(s)
		ok := err == nil && slices.Contains([]string{"mqtts", "ssl", "tls"}, u.Scheme) && u.Hostname() != "" && u.User == nil &&
			strings.Trim(u.Path, "/") == "" && (u.Port() == "" || validPort(u.Port()))
		if err == nil {
			s = u.Redacted()
		}
		bad.need(ok, "mqtt.servers", s, "mqtts://host:port")
	}
	bad.need(m.Encoding == "json" || m.Encoding == "cbor", "mqtt.encoding", m.Encoding, "json or cbor")
	bad.need(m.KeepAlive >= 10*time.Second && m.KeepAlive <= 30*time.Minute && m.KeepAlive%time.Second == 0, "mqtt.keep_alive", m.KeepAlive,
		"10s to 30m, in whole seconds")
	bad.need(m.BackoffMax >= time.Second && m.BackoffMax <= 24*time.Hour, "mqtt.backoff_max", m.BackoffMax, "1s to 24h")
	bad.need(m.StableAfter >= time.Second, "mqtt.stable_after", m.StableAfter, "at least 1s")
}

func (t Telemetry) validate(bad *faults) {
	bad.need(t.Interval >= time.Second && t.Interval <= time.Hour, "telemetry.interval", t.Interval, "1s to 1h")
	bad.need(t.BatchRows >= 1 && t.BatchRows <= 360, "telemetry.batch_rows", t.BatchRows, "1 to 360")
	bad.need(t.MaxSeries >= 128 && t.MaxSeries <= api.MaxSeries, "telemetry.max_series", t.MaxSeries, fmt.Sprint("128 to ", api.MaxSeries))
}

func (o Outbox) validate(bad *faults) {
	bad.need(o.MaxBytes >= 256<<10, "outbox.max_bytes", o.MaxBytes, "at least 256KiB")
	bad.need(o.MaxAge >= time.Minute, "outbox.max_age", o.MaxAge, "at least 1m")
	bad.need(o.MemoryBytes >= 64<<10 && o.MemoryBytes <= 256<<20, "outbox.memory_bytes", o.MemoryBytes, "64KiB to 256MiB")
	bad.need(o.SpillAfter >= time.Second, "outbox.spill_after", o.SpillAfter, "at least 1s")
	bad.need(o.ReplayBytesPerSecond >= 1<<10, "outbox.replay_bytes_per_second", o.ReplayBytesPerSecond, "at least 1KiB")
}

func (c Command) validate(bad *faults) {
	bad.need(c.Concurrency >= 1 && c.Concurrency <= 64, "command.concurrency", c.Concurrency, "1 to 64")
	bad.need(c.MaxFileBytes > 0, "command.max_file_bytes", c.MaxFileBytes, "above 0")
	for _, list := range []struct {
		field string
		paths []string
	}{{"command.read", c.Read}, {"command.write", c.Write}, {"command.logs", c.Logs}} {
		for _, p := range list.paths {
			bad.need(filepath.IsAbs(p) && filepath.Clean(p) == p, list.field, p, "an absolute, clean path")
		}
	}
}

func (u Update) validate(bad *faults) {
	bad.need(u.Dir == "" || filepath.IsAbs(u.Dir), "update.dir", u.Dir, "an absolute path, or nothing")
	bad.need(u.Window >= 10*time.Second && u.Window <= 24*time.Hour, "update.window", u.Window, "10s to 24h")
	for _, k := range u.Keys {
		_, err := release.ParseKey(k)
		bad.need(err == nil, "update.keys", k, "56 characters of base64 that begin with RW, as minisign's public keys are")
	}
}

// runtimeNames are the runtimes that a workload may name.
var runtimeNames = []string{"containerd", "process", "wasm"}

func (w Workloads) validate(bad *faults) {
	bad.need(w.Dir == "" || filepath.IsAbs(w.Dir), "workloads.dir", w.Dir, "an absolute path, or nothing")
	for i, name := range w.Runtimes {
		bad.need(slices.Contains(runtimeNames, name), "workloads.runtimes", name, strings.Join(runtimeNames, ", "))
		bad.need(!slices.Contains(w.Runtimes[:i], name), "workloads.runtimes", name, "each once")
	}
	for _, p := range w.HostPaths {
		bad.need(filepath.IsAbs(p) && filepath.Clean(p) == p, "workloads.host_paths", p, "an absolute, clean path")
	}
	bad.need(w.ModuleTime >= 0, "workloads.module_time", w.ModuleTime, "0s or more")
	bad.need(w.Containerd == "" || filepath.IsAbs(w.Containerd), "workloads.containerd", w.Containerd, "an absolute path, or nothing")
	bad.need(w.MaxLogBytes >= 64<<10, "workloads.max_log_bytes", w.MaxLogBytes, "at least 64KiB")
}
