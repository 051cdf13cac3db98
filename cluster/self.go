package cluster

import (
	"bytes"
	"net/url"
	"slices"
	"sync"

	"github.com/skerry-edge/skerry/configs"
)

// ownLogBytes is how much of its own log the agent keeps in memory, for a support bundle.
const ownLogBytes = 256 << 10

// ownLog keeps the end of what is written to it. The zero value is ready. Safe for concurrent use.
type ownLog struct {
	mu   sync.Mutex
	data []byte
	cut  bool // something before data is gone
}

// Write keeps p; it never fails.
func (l *ownLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.data = append(l.data, p...)
	if over := len(l.data) - ownLogBytes; over > ownLogBytes/4 { // seldom, for what is left has to be moved
		l.data, l.cut = append(l.data[:0], l.data[over:]...), true
	}
	return len(p), nil
}

// tail returns what is kept, from a line's beginning.
func (l *ownLog) tail() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	data := l.data
	if i := bytes.IndexByte(data, '\n'); l.cut && i >= 0 {
		data = data[i+1:]
	}
	return bytes.Clone(data)
}

// configText is the configuration in force as YAML. Passwords in addresses are left out; other secrets are in files, of
// which only the path is known here.
func (a *Agent) configText() (string, error) {
	cfg := a.cfg
	cfg.MQTT.External = withoutPassword(cfg.MQTT.External)
	cfg.MQTT.NodeServers = slices.Clone(cfg.MQTT.NodeServers)
	for i, s := range cfg.MQTT.NodeServers {
		cfg.MQTT.NodeServers[i] = withoutPassword(s)
	}
	cfg.Telemetry.RemoteWrite = slices.Clone(cfg.Telemetry.RemoteWrite)
	for i, r := range cfg.Telemetry.RemoteWrite {
		cfg.Telemetry.RemoteWrite[i].URL = withoutPassword(r.URL)
	}
	return configs.Render(cfg)
}

// withoutPassword is address without what an address can hide: a password, and the values of its query.
func withoutPassword(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "(does not parse)"
	}
	q := u.Query()
	for key := range q {
		q.Set(key, "xxxxx")
	}
	u.RawQuery = q.Encode()
	return u.Redacted()
}
