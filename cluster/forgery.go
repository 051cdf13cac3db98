package cluster

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/access"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/mqtt/broker"
)

// Anybody with a certificate can make the broker refuse as much as he likes, and each entry costs a write to disk. So each
// is written down forgeriesBurst times at once and then once in forgeriesEvery, all together as often as strangers are; the
// next entry of the same one says how many were left out.
const (
	forgeriesBurst = 5
	forgeriesEvery = time.Minute
	maxForgers     = 1024
)

// forgers is what the audit log was spared, by who tried. What is forgotten beyond its bound begins anew.
type forgers struct {
	all *rate.Limiter

	mu   sync.Mutex
	each map[string]*forger
}

type forger struct {
	limit   *rate.Limiter
	omitted int
}

func newForgers() *forgers {
	return &forgers{all: rate.NewLimiter(1, strangersBurst), each: map[string]*forger{}}
}

// admit reports whether one more attempt of who is written down, and how many were not since the one before.
func (f *forgers) admit(who string) (omitted int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := f.each[who]
	if one == nil {
		if len(f.each) >= maxForgers {
			clear(f.each)
		}
		one = &forger{limit: rate.NewLimiter(rate.Every(forgeriesEvery), forgeriesBurst)}
		f.each[who] = one
	}
	if !one.limit.Allow() || !f.all.Allow() {
		one.omitted++
		return 0, false
	}
	omitted, one.omitted = one.omitted, 0
	return omitted, true
}

// onRefused writes down what the broker's access list refused somebody who is known.
func (a *Agent) onRefused(r broker.Refusal) {
	omitted, ok := a.forgers.admit(r.From.CommonName())
	if !ok {
		a.unwritten.Add(1)
		return
	}
	e := api.AuditEntry{By: r.From.Name, Role: r.From.Role, Via: access.ViaMQTT, From: r.Addr, Action: "mqtt.publish",
		Object: strings.ToValidUTF8(fmt.Sprintf("%.300s", r.Topic), "?"), Result: r.Why.Error()}
	if r.From.Kind != mqtt.OperatorIdentity {
		e.By = string(r.From.Kind) + ":" + r.From.Name
	}
	if host, _, err := net.SplitHostPort(r.Addr); err == nil {
		e.From = host
	}
	if t, err := a.topics.Parse(r.Topic); err == nil && t.Kind == mqtt.KindRequest && r.From.Kind == mqtt.OperatorIdentity {
		e.Action, e.Object = "command.create", t.Node+" "+t.ID
	}
	if omitted > 0 {
		e.Result += fmt.Sprintf(" (and %d more attempts since the entry before)", omitted)
	}
	a.record(e)
}
