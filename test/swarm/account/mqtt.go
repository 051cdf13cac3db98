package account

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// MQTT is the view of an operator who subscribes to what nodes say of commands and what becomes of requests. Run has to
// run all the time; what is said while its link is down it does not hear, and then it is not whole.
type MQTT struct {
	topics mqtt.Topics
	codec  *mqtt.Codec
	link   *mqtt.Link

	mu    sync.Mutex
	lives map[string]*Life
}

// MQTTConfig is whom to listen to, and as whom. Name is the operator's.
type MQTTConfig struct {
	Servers []string
	Name    string
	TLS     *tls.Config
	Topics  mqtt.Topics
	Codec   *mqtt.Codec
	Log     *slog.Logger
}

// NewMQTT builds the view; nothing is connected yet.
func NewMQTT(cfg MQTTConfig) (*MQTT, error) {
	v := &MQTT{topics: cfg.Topics, codec: cfg.Codec, lives: map[string]*Life{}}
	var err error
	v.link, err = mqtt.NewLink(mqtt.LinkConfig{Servers: cfg.Servers, ClientID: "operator:" + cfg.Name, Log: cfg.Log, Queue: 8192, BackoffMax: 5 * time.Second,
		TLS: func(string) (*tls.Config, error) { return cfg.TLS, nil },
		Subscriptions: []mqtt.Subscription{{Filter: cfg.Topics.Filter(mqtt.KindCmdStatus, "+"), Handler: v.take},
			{Filter: cfg.Topics.Filter(mqtt.KindRequestStatus, "+"), Handler: v.take}}})
	return v, err
}

// Run listens until ctx ends.
func (v *MQTT) Run(ctx context.Context) error { return v.link.Run(ctx) }

// AwaitUp waits until it hears.
func (v *MQTT) AwaitUp(ctx context.Context) error { return v.link.AwaitUp(ctx) }

// Request asks a node for a command, as operators do over MQTT.
func (v *MQTT) Request(ctx context.Context, node, id string, req *api.Request) error {
	payload, err := v.codec.Encode(mqtt.JSON, req)
	if err != nil {
		return err
	}
	return v.link.Publish(ctx, v.topics.Of(mqtt.KindRequest, node, id), payload, false)
}

// take notes the end of a command.
func (v *MQTT) take(_ context.Context, m mqtt.Inbound) error {
	topic, err := v.topics.Parse(m.Topic)
	if err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	var st api.Status
	if err := v.codec.Decode(topic.Kind, m.Payload, &st); err != nil {
		return fmt.Errorf("%w: %w", err, mqtt.ErrDiscard)
	}
	v.hear(topic.Kind, &st)
	return nil
}

func (v *MQTT) hear(kind mqtt.Kind, st *api.Status) {
	if !st.Phase.Final() {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	l := v.lives[st.ID]
	if l == nil {
		l = &Life{}
		v.lives[st.ID] = l
	}
	list := &l.Finals
	if kind == mqtt.KindCmdStatus {
		list = &l.Said
	}
	if !slices.Contains(*list, st.Phase) {
		*list = append(*list, st.Phase)
		l.Reason = st.Reason
	}
}

// Name is mqtt.
func (*MQTT) Name() string { return "mqtt" }

// hearWithin bounds the wait for what is on its way when the other views are at their end already.
const hearWithin = 5 * time.Second

// Commands tells what was heard. Of orders by REST only the node's word is to be heard; of those over MQTT the end too,
// as long as the subscription was never interrupted: then silence proves something.
func (v *MQTT) Commands(ctx context.Context, orders []Order) (map[string]Life, bool, error) {
	unbroken := v.link.Status().Reconnects == 0
	var due []string
	for i := range orders {
		if o := &orders[i]; unbroken && o.Via == "mqtt" && o.Answered {
			due = append(due, o.ID)
		}
	}
	for giveUp := time.Now().Add(hearWithin); v.missing(due) && time.Now().Before(giveUp); {
		if !agent.Wait(ctx, 50*time.Millisecond) {
			return nil, false, ctx.Err()
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make(map[string]Life, len(v.lives))
	for id, l := range v.lives {
		out[id] = Life{Finals: slices.Clone(l.Finals), Said: slices.Clone(l.Said), Reason: l.Reason}
	}
	for _, id := range due {
		l := out[id]
		l.Due = true
		out[id] = l
	}
	return out, false, nil
}

// missing reports whether an end that is due was not heard yet.
func (v *MQTT) missing(due []string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.ContainsFunc(due, func(id string) bool { return v.lives[id] == nil || len(v.lives[id].Finals) == 0 })
}
