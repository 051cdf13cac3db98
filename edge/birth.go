package edge

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// A birth is told again within a session when something in it has changed: at most rebirthBurst times at once, and then
// once every rebirthEvery. A probe that fails and recovers all the time must not cost a metered link.
const (
	rebirthBurst  = 3
	rebirthEvery  = time.Minute
	rebirthSettle = 300 * time.Millisecond // what changes together is told together
)

// birth is the node's description of itself.
func (a *Agent) birth() *api.Birth {
	id, cfg := a.keeper.Current(), a.settings.effective()
	now, quality := a.clock.Read()
	labels, err := labelMap(cfg.Labels)
	if err != nil { // validated before
		labels = nil
	}
	b := &api.Birth{Node: id.Node, Cluster: id.Cluster, Epoch: a.epoch.Load(), Boot: a.boot, At: api.At(now), TimeQuality: quality,
		Started: api.At(a.started), Version: agent.Version(), Host: a.host, Labels: labels, Runtimes: a.workloads.Runtimes(), Renews: true, Sensors: a.probes.Sensors(),
		Probes: a.probes.Status(), Verbs: a.engine.Verbs(), Certificate: id.Describe(), Key: id.Leaf().RawSubjectPublicKeyInfo, Backlog: a.outbox.Backlog(),
		IntervalMillis: cfg.Telemetry.Interval.Milliseconds() * int64(cfg.Telemetry.BatchRows),
		AutonomyMillis: cfg.Autonomy.Milliseconds(), OpenCommands: a.engine.Open()}
	if rev := a.desired.Load(); rev != nil {
		b.Desired = *rev
	}
	b.Claim = a.obeys.greatest()
	return b
}

// publishBirth tells who is there.
func (a *Agent) publishBirth(ctx context.Context, b *api.Birth, publish publisher) error {
	payload, err := a.codec.Encode(mqtt.Encoding(a.encoding.Load()), b)
	if err != nil {
		return err
	}
	if err := publish(ctx, a.topic(mqtt.KindBirth, ""), payload, true); err != nil {
		return err
	}
	sum := fingerprint(b)
	a.told.Store(&sum)
	return nil
}

// fingerprint is the same for births that differ only in what every moment changes.
func fingerprint(b *api.Birth) [sha256.Size]byte {
	lasting := *b
	lasting.At, lasting.TimeQuality, lasting.Backlog, lasting.OpenCommands, lasting.Desired = 0, "", api.Backlog{}, nil, api.Revision{}
	lasting.Claim = nil
	raw, err := json.Marshal(&lasting)
	if err != nil { // texts and numbers only
		raw = nil
	}
	return sha256.Sum256(raw)
}

// oweBirth has the reannouncer look whether the birth has changed.
func (a *Agent) oweBirth() {
	select {
	case a.birthDue <- struct{}{}:
	default: // one birth tells all
	}
}

// reannouncer publishes the birth again when it has changed within a session: labels, settings, probes, certificate.
func (a *Agent) reannouncer(ctx context.Context) error {
	allow := allowance{left: rebirthBurst, at: time.Now()}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.birthDue:
		}
		if !agent.Wait(ctx, allow.wait(time.Now())) || a.line.AwaitUp(ctx) != nil {
			return nil
		}
		b := a.birth()
		if told := a.told.Load(); told != nil && *told == fingerprint(b) {
			continue // as it was, or told by a new session meanwhile
		}
		if err := a.publishBirth(ctx, b, a.line.Publish); err != nil && ctx.Err() == nil {
			a.log.Debug("birth not sent; the next session begins with it", agent.KeyErr, err)
		}
		allow.left--
	}
}

// allowance is how many births may still be told at once; they come back one every rebirthEvery.
type allowance struct {
	left float64
	at   time.Time
}

// wait is how long the next birth has to wait.
func (a *allowance) wait(now time.Time) time.Duration {
	a.left, a.at = min(rebirthBurst, a.left+float64(now.Sub(a.at))/float64(rebirthEvery)), now
	return max(rebirthSettle, time.Duration((1-a.left)*float64(rebirthEvery)))
}

func labelMap(list []string) (map[string]string, error) {
	out := make(map[string]string, len(list))
	for _, l := range list {
		key, value, ok := strings.Cut(l, "=")
		if !ok {
			return nil, fmt.Errorf("labels %q: wanted key=value", l)
		}
		out[key] = value
	}
	return out, nil
}
