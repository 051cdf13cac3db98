package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/command"
	"github.com/skerry-edge/skerry/mqtt"
)

// announce has a device tell its verbs, and waits until the registry has them.
func (d *device) announce(epoch uint64, verbs []api.Verb, labels map[string]string) {
	d.r.t.Helper()
	now := api.At(time.Now())
	d.say(d.r.topic(mqtt.KindBirth, d.id, ""), true, api.Birth{Node: d.id, Cluster: "c1", Epoch: epoch, Boot: "b", At: now, TimeQuality: api.TimeSynced,
		Started: now, Version: "1", Verbs: verbs, Labels: labels, IntervalMillis: 10_000})
}

func TestTheRoleThatIsShownIsTheRoleThatTheDoorAsksFor(t *testing.T) {
	r := newRig(t, nil)
	d := r.online("n1", r.enrol("n1"), 1, false)
	var verbs []api.Verb
	for _, name := range []string{"ping", "info", "telemetry.now", "exec", "log.tail", "file.get", "file.put", "cancel", "config.set", "agent.restart", "reboot", "homemade"} {
		for _, role := range []api.Role{"", api.RoleViewer, api.RoleOperator, api.RoleAdmin, "god"} {
			verbs = append(verbs, api.Verb{Name: name, Role: role})
		}
	}
	for epoch, v := range verbs {
		d.announce(uint64(epoch+2), []api.Verb{v}, nil)
		var shown api.Node
		eventually(t, "announced", func() bool {
			shown = must[api.Node](r, "GET", "/v1/nodes/n1", nil)
			return shown.Birth != nil && shown.Birth.Epoch == uint64(epoch+2)
		})
		least := shown.Birth.Verbs[0].Role
		if !api.RoleAdmin.Includes(least) || least == api.RoleViewer {
			t.Errorf("%s, said %q: shown %q; wanted operator or admin", v.Name, v.Role, least)
		}
		if builtIn := roleFor(v.Name, nil); !least.Includes(builtIn) && v.Name != "homemade" {
			t.Errorf("%s, said %q: shown %q, less than %q", v.Name, v.Role, least, builtIn)
		}
		for _, role := range []api.Role{"", "god", api.RoleViewer, api.RoleOperator, api.RoleAdmin} {
			_, err := r.order(t.Context(), command.Order{Node: "n1", Verb: v.Name, By: "test", Deadline: time.Now().Add(time.Minute)}, restPrincipal("x", role))
			p, isProblem := errors.AsType[*api.Problem](err)
			if permitted := !isProblem || p.Code != "role"; permitted != role.Includes(least) {
				t.Errorf("%s, said %q, shown %q, asked by %q: %v", v.Name, v.Role, least, role, err)
			}
		}
	}
}

func TestViewersLearnNoSecretsByAnyDoor(t *testing.T) {
	r := newRig(t, nil)
	d := r.online("n1", r.enrol("n1"), 1, false)
	viewer, operator := r.access(api.RoleViewer), r.access(api.RoleOperator)
	spy := r.connect("operator-spy", r.operator("spy", api.RoleViewer), r.topics.All())
	op := r.connect("operator-op", r.operator("op", api.RoleOperator), r.topics.All())
	op.say(r.topic(mqtt.KindRequest, "n1", "s1"), false, []byte(`{"verb":"selfmade","args":{"password":"hunter2"},"deadline":"30s"}`))
	eventually(t, "delivered", func() bool { return len(d.messages(r.topic(mqtt.KindCmd, "n1", "s1"))) > 0 })
	d.say(r.topic(mqtt.KindCmdStatus, "n1", "s1"), false, api.Status{ID: "s1", Phase: api.PhaseSucceeded, Epoch: 1, At: api.At(time.Now()),
		Output: "hunter2", Result: map[string]any{"x": "hunter2"}, Reason: "hunter2"})
	eventually(t, "the operator is told", func() bool {
		_, last := op.statuses(r.topic(mqtt.KindRequestStatus, "n1", "s1"))
		return last.Phase == api.PhaseSucceeded && last.Output == "hunter2"
	})
	for _, path := range []string{"/v1/commands", "/v1/commands/s1"} {
		if status, text := r.call(operator, "GET", path, ""); status != 200 || strings.Count(text, "hunter2") < 4 {
			t.Errorf("%s as operator: %d %s", path, status, text)
		}
		if status, text := r.call(viewer, "GET", path, ""); status != 200 || strings.Contains(text, "hunter2") || !strings.Contains(text, `"succeeded"`) {
			t.Errorf("%s as viewer: %d %s", path, status, text)
		}
	}
	d.say(r.topic(mqtt.KindEvent, "n1", ""), false, api.Event{Epoch: 1, Seq: 1, Boot: "b", At: api.At(time.Now()), TimeQuality: api.TimeSynced,
		Class: api.ClassEvent, Kind: "done", Message: "the last of it"})
	eventually(t, "the viewer hears the node", func() bool { return len(spy.messages(r.topic(mqtt.KindEvent, "n1", ""))) > 0 })
	spy.mu.Lock()
	defer spy.mu.Unlock()
	for _, m := range spy.got {
		if strings.Contains(string(m.Payload()), "hunter2") {
			t.Errorf("the viewer was sent %s %s", m.Topic(), m.Payload())
		}
	}
}

func TestARefusedRequestNeverEndsAnothersCommand(t *testing.T) {
	r := newRig(t, nil)
	r.online("n1", r.enrol("n1"), 1, false)
	alice := r.connect("operator-a", r.operator("alice", api.RoleOperator), r.topic(mqtt.KindRequestStatus, "n1", "+"))
	bob := r.connect("operator-b", r.operator("bob", api.RoleOperator))
	request, status := r.topic(mqtt.KindRequest, "n1", "try1"), r.topic(mqtt.KindRequestStatus, "n1", "try1")
	alice.say(request, false, []byte(`{"verb":"ping","deadline":"60s"}`))
	eventually(t, "delivered", func() bool { _, last := alice.statuses(status); return last.Phase == api.PhaseDelivered })
	for says, payload := range map[string]string{"id try1 was used": `{"verb":"ping","deadline":"60s"}`, "cannot be read": "garbage",
		"config.set takes admin": `{"verb":"config.set","deadline":"60s"}`} {
		bob.say(request, false, []byte(payload))
		eventually(t, says, func() bool {
			_, last := alice.statuses(status)
			return strings.Contains(last.Reason, says) && strings.Contains(last.Reason, "by bob") && strings.Contains(last.Reason, "goes on")
		})
	}
	if phases, _ := alice.statuses(status); slices.ContainsFunc(phases, api.Phase.Final) {
		t.Errorf("alice was told %v; her command goes on", phases)
	}
	bob.say(r.topic(mqtt.KindRequest, "n1", "try2"), false, []byte("garbage")) // an id of nobody else
	eventually(t, "rejected", func() bool {
		_, last := alice.statuses(r.topic(mqtt.KindRequestStatus, "n1", "try2"))
		return last.Phase == api.PhaseRejected
	})
	if e := r.audited()[0]; e.By != "bob" || e.Result == "ok" || !strings.HasSuffix(e.Object, "n1 try2") {
		t.Errorf("audit %+v", e)
	}
}

func TestWhatTheBrokerRefusesIsInTheAuditLogAndCannotFloodIt(t *testing.T) {
	r := newRig(t, nil)
	cert := r.enrol("n1")
	for _, c := range []struct {
		name    string
		role    api.Role
		topic   string
		retain  bool
		action  string
		by      string
		concern string
	}{
		{"vic", api.RoleViewer, r.topic(mqtt.KindRequest, "n1", "rq5"), false, "command.create", "vic", "n1 rq5"},
		{"al", api.RoleOperator, r.topic(mqtt.KindCmd, "n1", "x"), false, "mqtt.publish", "al", "/n1/cmd/x"},
		{"mo", api.RoleAdmin, r.topic(mqtt.KindState, "n1", ""), true, "mqtt.publish", "mo", "/n1/state"},
		{"re", api.RoleOperator, r.topic(mqtt.KindRequest, "n1", "kept"), true, "command.create", "re", "n1 kept"},
		{"", "", r.topic(mqtt.KindTele, "n2", ""), false, "mqtt.publish", "node:n1", "/n2/tele"},
	} {
		id, own := "operator-"+c.name, cert
		if c.role != "" {
			own = r.operator(c.name, c.role)
		} else {
			id = "n1"
		}
		p := r.connect(id, own)
		p.Publish(c.topic, 1, c.retain, "{}")
		eventually(t, c.topic+" is written down", func() bool {
			return slices.ContainsFunc(r.audited(), func(e api.AuditEntry) bool {
				return e.By == c.by && e.Role == c.role && e.Via == "mqtt" && e.From == "127.0.0.1" && e.Action == c.action &&
					strings.HasSuffix(e.Object, c.concern) && e.Result != "ok"
			})
		})
	}
	began := time.Now()
	for range 3 * forgeriesBurst {
		p := r.connect("n1", cert)
		p.Publish(r.topic(mqtt.KindTele, "n2", ""), 1, false, "{}")
		select {
		case <-p.lost:
		case <-time.After(patience):
			t.Fatal("still connected")
		}
	}
	entries := r.audited()
	if n := len(slices.DeleteFunc(entries, func(e api.AuditEntry) bool { return e.By != "node:n1" })); n > forgeriesBurst+2+int(time.Since(began)/forgeriesEvery) {
		t.Errorf("%d entries of one forger; wanted about %d", n, forgeriesBurst)
	}
	if r.unwritten.Load() < forgeriesBurst {
		t.Errorf("%d counted as not written", r.unwritten.Load())
	}
}

func TestWhatManyNodesWereToldIsOneAuditEntryWithTheirCommands(t *testing.T) {
	r := newRig(t, nil)
	for _, n := range []string{"n1", "n2"} {
		r.enrol(n)
		must[api.Node](r, "PATCH", "/v1/nodes/"+n, api.NodePatch{Labels: map[string]string{"site": "a"}})
	}
	for _, req := range []api.CommandRequest{{Selector: "site=a", Verb: "ping", Deadline: "30s"},
		{Nodes: []string{"n1", "n2", "n1", "n1"}, Verb: "ping", Deadline: "30s"}} {
		made := must[api.List[api.CommandRecord]](r, "POST", "/v1/commands", req).Items
		if len(made) != 2 || made[0].Node != "n1" || made[1].Node != "n2" {
			t.Fatalf("%+v: %+v; wanted one command for each of two nodes", req, made)
		}
		e := r.audited()[0]
		if want := fmt.Sprintf("n1 %s, n2 %s", made[0].ID, made[1].ID); e.Action != "command.create" || !strings.HasPrefix(e.Object, "ping ") || !strings.HasSuffix(e.Object, want) {
			t.Errorf("audit %+v; wanted ping and %s", e, want)
		}
	}
	once := api.CommandRequest{ID: "once", Nodes: []string{"n1", "n1"}, Verb: "ping", Deadline: "30s"}
	if made := must[api.List[api.CommandRecord]](r, "POST", "/v1/commands", once).Items; len(made) != 1 || made[0].ID != "once" {
		t.Errorf("%+v", made)
	}
}

func TestBadLabelsAreRefusedFromPeopleAndLeftOutFromDevices(t *testing.T) {
	r := newRig(t, nil)
	d := r.online("n1", r.enrol("n1"), 1, false)
	for _, body := range []string{`{"labels":{"bad label":"x"}}`, `{"labels":{"rack":"not good"}}`} {
		if status, text := r.call(r.root(), "PATCH", "/v1/nodes/n1", body); status != 400 || !strings.Contains(text, `"node n1: labels`) || !strings.Contains(text, "wanted") {
			t.Errorf("%s: %d %s", body, status, text)
		}
		if status, text := r.call(r.root(), "POST", "/v1/tokens", `{"ttl":"1h","maxUses":1,`+body[1:]); status != 400 || !strings.Contains(text, "wanted") {
			t.Errorf("token with %s: %d %s", body, status, text)
		}
	}
	const steers = "node-restriction.kubernetes.io/pci"
	labels := map[string]string{"good": "yes", "bad label": "x", "rack": "not good", steers: "true"}
	told := func() (n int) {
		for _, e := range must[api.List[api.EventRecord]](r, "GET", "/v1/events?node=n1", nil).Items {
			if e.Kind == "node.labels" {
				n++
			}
		}
		return n
	}
	for epoch := range uint64(3) {
		d.announce(epoch+2, nil, labels)
		eventually(t, "announced", func() bool { n, _ := r.registry.Get("n1"); return n.Epoch == epoch+2 })
	}
	if n, _ := r.registry.Get("n1"); len(n.Labels) != 1 || n.Labels["good"] != "yes" {
		t.Errorf("labels %v", n.Labels)
	}
	eventually(t, "told once", func() bool { return told() == 1 })
	if n := must[api.Node](r, "PATCH", "/v1/nodes/n1", json.RawMessage(`{"labels":{"`+steers+`":"true"}}`)); n.Labels[steers] != "true" {
		t.Errorf("a person's word: labels %v", n.Labels)
	}
	d.announce(5, nil, map[string]string{"good": "yes"})
	eventually(t, "cleared", func() bool { return told() == 2 })
}

func TestEventsAreWalkedPageByPageNewestFirst(t *testing.T) {
	r := newRig(t, nil)
	for i := range 25 {
		r.note(api.ClassEvent, "test.walk", "", fmt.Sprint(i))
		r.record(api.AuditEntry{By: "x", Result: map[bool]string{true: "ok", false: "no"}[i%3 == 0]})
	}
	for _, path := range []string{"/v1/events", "/v1/audit"} {
		var last, pages uint64
		for next := ""; ; {
			page := must[api.List[struct {
				ID uint64 `json:"id"`
			}]](r, "GET", path+"?limit=4&continue="+next, nil)
			for _, item := range page.Items {
				if last != 0 && item.ID >= last {
					t.Errorf("%s: %d after %d; wanted newest first", path, item.ID, last)
				}
				last = item.ID
			}
			pages++
			if next = page.Continue; next == "" {
				break
			}
		}
		if last != 1 {
			t.Errorf("%s: the walk ended at %d", path, last)
		}
		if path == "/v1/events" && pages < 7 {
			t.Errorf("%d pages", pages)
		}
		if status, text := r.call(r.root(), "GET", path+"?continue=x", ""); status != 400 || !strings.Contains(text, "continue") {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	var p api.Problem
	if _, text := r.call(r.root(), "GET", "/v1/commands?continue=x", ""); json.Unmarshal([]byte(text), &p) != nil || p.Status != 400 || p.Cure == "" {
		t.Error(text)
	}
}
