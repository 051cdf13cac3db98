package cluster

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
	"github.com/skerry-edge/skerry/mqtt/broker"
)

func TestTheMQTTDoorTakesTheSameRolesAsREST(t *testing.T) {
	r := newRig(t, nil)
	r.online("n1", r.enrol("n1"), 1, true)
	all := r.topics.Of(mqtt.KindRequestStatus, "n1", "+")
	for i, c := range []struct {
		role api.Role
		verb string
		ok   bool
	}{
		{api.RoleOperator, "ping", true}, {api.RoleAdmin, "ping", true},
		{api.RoleOperator, "config.set", false}, {api.RoleAdmin, "config.set", true},
		{api.RoleOperator, "selfmade", true},  // the node says viewer: a node's word alone makes no verb cheaper
		{api.RoleOperator, "nonsense", false}, // nobody has announced it
		{api.RoleOperator, "reboot", false},
	} {
		name := "op" + string(rune('a'+i))
		op := r.connect("operator-"+name, r.operator(name, c.role), all)
		id := "r" + string(rune('a'+i))
		status := r.topic(mqtt.KindRequestStatus, "n1", id)
		op.say(r.topic(mqtt.KindRequest, "n1", id), false, api.Request{Verb: c.verb, Deadline: api.Deadline{After: 30 * time.Second}})
		eventually(t, c.verb+" ends", func() bool { _, last := op.statuses(status); return last.Phase.Final() })
		phases, last := op.statuses(status)
		if want := map[bool]api.Phase{true: api.PhaseSucceeded, false: api.PhaseRejected}[c.ok]; last.Phase != want {
			t.Errorf("%s as %s: %v, %s; wanted %s", c.verb, c.role, phases, last.Reason, want)
		}
		if finals := slices.DeleteFunc(phases, func(p api.Phase) bool { return !p.Final() }); len(slices.Compact(finals)) != 1 {
			t.Errorf("%s as %s: final states %v; wanted one", c.verb, c.role, finals)
		}
		list := r.audited()
		e := list[slices.IndexFunc(list, func(e api.AuditEntry) bool { return strings.HasSuffix(e.Object, " "+id) })]
		if e.By != name || e.Via != "mqtt" || e.Role != c.role || (e.Result == "ok") != c.ok {
			t.Errorf("%s as %s: audit %+v", c.verb, c.role, e)
		}
	}
}

func TestAViewerMayNotAskByMQTT(t *testing.T) {
	r := newRig(t, nil)
	r.online("n1", r.enrol("n1"), 1, true)
	viewer := r.connect("operator-v", r.operator("v", api.RoleViewer), r.topic(mqtt.KindRequestStatus, "n1", "+"))
	token := viewer.Publish(r.topic(mqtt.KindRequest, "n1", "r1"), 1, false, `{"verb":"ping","deadline":"10s"}`)
	select {
	case <-viewer.lost:
	case <-time.After(patience):
		t.Errorf("still connected; publish said %v", token.Error())
	}
	if list := must[api.List[api.CommandRecord]](r, "GET", "/v1/commands", nil).Items; len(list) != 0 {
		t.Errorf("a command came of it: %+v", list)
	}
	// Were the broker's list wrong, the door itself would refuse.
	watcher := r.connect("operator-w", r.operator("w", api.RoleOperator), r.topic(mqtt.KindRequestStatus, "n1", "+"))
	topic := mqtt.Topic{Kind: mqtt.KindRequest, Node: "n1", ID: "r2"}
	for _, role := range []api.Role{api.RoleViewer, "", "root"} {
		err := r.receive(t.Context(), broker.Inbound{Topic: topic, Payload: []byte(`{"verb":"ping","deadline":"10s"}`),
			From: mqtt.Identity{Kind: mqtt.OperatorIdentity, Name: "v", Role: role, Cluster: "c1"}})
		if err != nil {
			t.Errorf("%q: %v; wanted it acknowledged, it would come back for ever", role, err)
		}
	}
	eventually(t, "refused", func() bool {
		_, last := watcher.statuses(r.topic(mqtt.KindRequestStatus, "n1", "r2"))
		return last.Phase == api.PhaseRejected
	})
}

func TestABadRequestIsToldToWhoAsked(t *testing.T) {
	r := newRig(t, nil)
	r.online("n1", r.enrol("n1"), 1, true)
	op := r.connect("operator-a", r.operator("a", api.RoleOperator), r.topics.All())
	for id, c := range map[string]struct{ node, payload, says string }{
		"r1": {"n1", `{"verb":"ping"}`, "deadline is missing"},
		"r2": {"n1", `{"verb":"ping","deadline":"10s","dedline":"1s"}`, "dedline"},
		"r3": {"n1", `not JSON`, "cannot be read"},
		"r4": {"n1", ``, "cannot be read"},
		"r5": {"n1", `{"verb":"ping","deadline":"-10s"}`, "deadline"},
		"r6": {"n1", `{"verb":"ping","deadline":"9000h"}`, "deadline"},
		"r7": {"nowhere", `{"verb":"ping","deadline":"10s"}`, "no such node"},
		"r8": {"n1", `{"verb":"ping","deadline":"10s","args":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{}}}}}}}}}}`, "nested"},
	} {
		op.say(r.topic(mqtt.KindRequest, c.node, id), false, []byte(c.payload))
		status := r.topic(mqtt.KindRequestStatus, c.node, id)
		eventually(t, id+" is answered", func() bool { return len(op.messages(status)) > 0 })
		if phases, last := op.statuses(status); len(phases) != 1 || last.Phase != api.PhaseRejected || !strings.Contains(last.Reason, c.says) {
			t.Errorf("%s: %v %q; wanted one refusal with %q", c.payload, phases, last.Reason, c.says)
		}
	}
	if !op.IsConnected() {
		t.Error("the operator was thrown out")
	}
}

func TestARepeatedRequestIsTheSameCommand(t *testing.T) {
	r := newRig(t, nil)
	r.online("n1", r.enrol("n1"), 1, true)
	op := r.connect("operator-a", r.operator("a", api.RoleOperator), r.topic(mqtt.KindRequestStatus, "n1", "+"))
	for range 3 {
		op.say(r.topic(mqtt.KindRequest, "n1", "once"), false, []byte(`{"verb":"ping","deadline":"10s"}`))
	}
	eventually(t, "ended", func() bool {
		_, last := op.statuses(r.topic(mqtt.KindRequestStatus, "n1", "once"))
		return last.Phase.Final()
	})
	op.say(r.topic(mqtt.KindRequest, "n1", "once"), false, []byte(`{"verb":"ping","deadline":"10s"}`)) // and when it has ended
	phases, _ := op.statuses(r.topic(mqtt.KindRequestStatus, "n1", "once"))
	for i, p := range phases {
		if i > 0 && phases[i-1] != p && !phases[i-1].CanBecome(p) {
			t.Errorf("told backwards: %v", phases)
		}
	}
	if list := must[api.List[api.CommandRecord]](r, "GET", "/v1/commands", nil).Items; len(list) != 1 || list[0].By != "mqtt:a" {
		t.Errorf("%+v", list)
	}
}

func TestOrdersToUnknownNodes(t *testing.T) {
	r := newRig(t, nil)
	for body, want := range map[string]struct {
		status int
		code   string
	}{
		`{"nodes":["nowhere"],"verb":"ping","deadline":"10s"}`:                  {404, "node_unknown"},
		`{"nodes":["No Name"],"verb":"ping","deadline":"10s"}`:                  {400, "command_invalid"},
		`{"selector":"a=b","verb":"ping","deadline":"10s"}`:                     {404, "selector_empty"},
		`{"selector":"a=b","nodes":["n1"],"verb":"ping","deadline":"10s"}`:      {400, "bad_request"},
		`{"verb":"ping","deadline":"10s"}`:                                      {400, "bad_request"},
		`{"nodes":["a","b"],"id":"x","verb":"ping","deadline":"10s"}`:           {400, "bad_request"},
		`{"nodes":["nowhere"],"verb":"ping","deadline":"soon"}`:                 {400, "bad_request"},
		`{"nodes":["nowhere"],"verb":"ping","deadline":"2001-01-01T00:00:00Z"}`: {400, "command_invalid"},
	} {
		if status, text := r.call(r.root(), "POST", "/v1/commands", body); status != want.status || !strings.Contains(text, want.code) {
			t.Errorf("%s: %d %s; wanted %d %s", body, status, text, want.status, want.code)
		}
	}
	status, text := r.call(r.root(), "POST", "/v1/commands", `{"nodes":["a","b"],"verb":"ping","deadline":"10s"}`)
	if status != 200 || strings.Count(text, `"rejected"`) < 2 {
		t.Errorf("of many: %d %s; wanted each told", status, text)
	}
	for _, path := range []string{"/v1/nodes/nowhere/logs", "/v1/nodes/nowhere/files?path=/x"} {
		if status, text := r.call(r.root(), "GET", path, ""); status != 404 || !strings.Contains(text, "node_unknown") {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	for path, code := range map[string]string{"/v1/nodes/nowhere": "node_unknown", "/v1/commands/nothing": "command_unknown"} {
		if status, text := r.call(r.root(), "GET", path, ""); status != 404 || !strings.Contains(text, code) {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if status, text := r.call(r.root(), "POST", "/v1/commands/nothing/cancel", ""); status != 404 {
		t.Errorf("cancel: %d %s", status, text)
	}
}

func TestARequesterIsNeverToldBackwards(t *testing.T) {
	r := newRig(t, nil)
	r.online("n1", r.enrol("n1"), 1, false)
	op := r.connect("operator-a", r.operator("a", api.RoleOperator), r.topic(mqtt.KindRequestStatus, "n1", "+"))
	op.say(r.topic(mqtt.KindRequest, "n1", "x"), false, []byte(`{"verb":"ping","deadline":"60s"}`))
	status := r.topic(mqtt.KindRequestStatus, "n1", "x")
	eventually(t, "delivered", func() bool { _, last := op.statuses(status); return last.Phase == api.PhaseDelivered })
	rec, _, err := r.journal.Get("x")
	if err != nil {
		t.Fatal(err)
	}
	stale := rec
	stale.Phase, stale.History = api.PhaseQueued, rec.History[:1]
	r.requesters.step(t.Context(), &stale) // the feed lags behind
	r.requesters.again(t.Context(), "x")   // and what comes after is told
	if phases, _ := op.statuses(status); slices.Contains(phases[slices.Index(phases, api.PhaseDelivered):], api.PhaseQueued) {
		t.Errorf("%v", phases)
	}
}

func TestNoRefusalSendsMuchOfTheRequestBack(t *testing.T) {
	r := newRig(t, nil)
	r.online("n1", r.enrol("n1"), 1, false)
	long := strings.Repeat("x", 40_000)
	_, csr := keyAndCSR(t)
	for _, c := range []struct {
		method, path string
		body         any
	}{
		{"POST", "/v1/commands", api.CommandRequest{Nodes: []string{long}, Verb: "ping", Deadline: "1s"}},
		{"POST", "/v1/commands", api.CommandRequest{Nodes: []string{"n1"}, Verb: long, Deadline: "1s"}},
		{"POST", "/v1/commands", api.CommandRequest{Nodes: []string{"n1"}, Verb: "ping", Deadline: long}},
		{"POST", "/v1/commands", api.CommandRequest{Nodes: []string{"n1"}, Verb: "ping", Deadline: "-" + strings.Repeat("0", 40_000) + "s"}},
		{"POST", "/v1/commands", api.CommandRequest{Nodes: []string{"n1"}, ID: long, Verb: "ping", Deadline: "1s"}},
		{"POST", "/v1/commands", api.CommandRequest{Nodes: []string{"n1"}, Verb: "log.tail", Args: map[string]any{long: long}, Deadline: "1s"}},
		{"POST", "/v1/commands", api.CommandRequest{Selector: long[:4000], Verb: "ping", Deadline: "1s"}},
		{"POST", "/v1/commands", api.CommandRequest{Selector: long + "(", Verb: "ping", Deadline: "1s"}},
		{"PATCH", "/v1/nodes/n1", api.NodePatch{Labels: map[string]string{long: "x"}}},
		{"PATCH", "/v1/nodes/n1", api.NodePatch{Labels: map[string]string{"x": long}}},
		{"POST", "/v1/tokens", api.TokenRequest{TTL: long}},
		{"POST", "/v1/tokens", api.TokenRequest{TTL: "1h", Labels: map[string]string{long: long}}},
		{"POST", "/v1/access-tokens", api.AccessRequest{Name: long, Role: "viewer"}},
		{"POST", "/v1/access-tokens", api.AccessRequest{Name: "x", Role: api.Role(long)}},
		{"POST", "/v1/access-tokens", api.AccessRequest{Name: "x", Role: "viewer", TTL: long}},
		{"POST", "/v1/operators", api.OperatorRequest{Name: "x", Role: api.Role(long), CSR: csr}},
		{"POST", "/v1/operators", api.OperatorRequest{Name: "x", Role: "viewer", CSR: long}},
		{"POST", "/v1/enroll", api.EnrollRequest{TokenID: long, Node: long, Secret: long, CSR: csr}},
		{"POST", "/v1/enroll", api.EnrollRequest{TokenID: "x", Node: "x", Secret: "x", CSR: csr}},
		{"POST", "/v1/renew", api.RenewRequest{}},
		{"GET", "/v1/enroll", nil},
		{"GET", "/v1/commands/" + long[:100], nil},
		{"DELETE", "/v1/tokens/nothing", nil},
		{"DELETE", "/v1/operators/nothing", nil},
		{"DELETE", "/v1/access-tokens/nothing", nil},
		{"DELETE", "/v1/enrollments/nothing", nil},
		{"DELETE", "/v1/nodes/nothing", nil},
		{"POST", "/v1/enrollments/nothing/approve", nil},
	} {
		raw, err := json.Marshal(c.body)
		if err != nil {
			t.Fatal(err)
		}
		status, text := r.call(r.root(), c.method, c.path, string(raw))
		var p api.Problem
		if err := json.Unmarshal([]byte(text), &p); err != nil || p.Status != status || status < 400 || p.Title == "" || p.Code == "" || p.Cure == "" {
			t.Errorf("%s %.40s %.60s: %d %.600s; wanted a problem with code and cure", c.method, c.path, raw, status, text)
		}
		if strings.Contains(text, long[:201]) || strings.Contains(text, strings.Repeat("0", 201)) {
			t.Errorf("%s %.40s %.60s: %d bytes sent back: %.300s", c.method, c.path, raw, len(text), text)
		}
	}
}
