package cli

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// TestADeviceThatIsOnlineIsNotThrownOutUnasked approves devices that ask for the id of a node.
func TestADeviceThatIsOnlineIsNotThrownOutUnasked(t *testing.T) {
	waiting := func(presence api.Presence) api.Enrollment {
		return api.Enrollment{ID: "e1", Node: "pump", Rejoin: presence != "", Presence: presence, From: "192.0.2.9", Host: api.Host{Hostname: "spare"}}
	}
	for name, c := range map[string]struct {
		waits        api.Enrollment
		args, answer string
		code         int
		asked        bool
		done         string // approve, deny or nothing
	}{
		"new":                      {waiting(""), "e1", "", ExitOK, false, "approve"},
		"wiped, by id":             {waiting(api.PresenceDisconnected), "e1", "", ExitOK, false, "approve"},
		"online, yes":              {waiting(api.PresenceOnline), "e1", "y\n", ExitOK, true, "approve"},
		"online, by the node, no":  {waiting(api.PresenceOnline), "pump", "n\n", ExitError, true, ""},
		"draining, nobody to ask":  {waiting(api.PresenceDraining), "e1", "", ExitUsage, true, ""},
		"online, flag":             {waiting(api.PresenceOnline), "e1 --yes", "", ExitOK, false, "approve"},
		"online, denied":           {waiting(api.PresenceOnline), "e1 --deny", "", ExitOK, false, "deny"},
		"another waits for a node": {waiting(api.PresenceOnline), "e2", "", ExitNotFound, false, ""},
	} {
		done := ""
		var out, errs bytes.Buffer
		app := &App{Out: &out, Err: &errs, In: strings.NewReader(c.answer), Now: time.Now, Env: newServer(t, map[string]http.HandlerFunc{
			"GET /v1/enrollments":               reply(api.List[api.Enrollment]{Items: []api.Enrollment{c.waits}}),
			"POST /v1/enrollments/e2/approve":   refuse(404),
			"POST /v1/enrollments/{id}/approve": func(w http.ResponseWriter, r *http.Request) { done = "approve"; reply(c.waits)(w, r) },
			"DELETE /v1/enrollments/{id}":       func(w http.ResponseWriter, r *http.Request) { done = "deny"; w.WriteHeader(http.StatusNoContent) },
		})}
		code := app.Main(t.Context(), append([]string{"approve"}, strings.Fields(c.args)...))
		asked := strings.Contains(errs.String(), "throw that device out for the one at 192.0.2.9 (spare)? [y/N]")
		if code != c.code || asked != c.asked || done != c.done {
			t.Errorf("%s: exit %d, asked %v, did %q; wanted %d, %v, %q in:\n%s%s", name, code, asked, done, c.code, c.asked, c.done, &out, &errs)
		}
	}
}

func TestTheListOfWaitingDevicesTellsWhosePlaceOneWouldTake(t *testing.T) {
	list := api.List[api.Enrollment]{Items: []api.Enrollment{{ID: "e1", Node: "pump", Rejoin: true, Presence: api.PresenceOnline}, {ID: "e2", Node: "gw"}}}
	code, out, errs := run(t, map[string]http.HandlerFunc{"/v1/enrollments": reply(list)}, "get", "enrollments")
	if code != ExitOK || !strings.Contains(out, "true: pump is online") || !strings.Contains(out, "false") {
		t.Errorf("exit %d:\n%s%s", code, out, errs)
	}
}

// TestATokenComesWithTheLineThatInstalls keeps the join string alone on standard output, and out of every argument.
func TestATokenComesWithTheLineThatInstalls(t *testing.T) {
	token := api.Token{ID: "t1", MaxUses: 1, Join: "skerry1.secret", Expires: api.At(time.Now())}
	code, out, errs := run(t, map[string]http.HandlerFunc{"/v1/tokens": reply(token)}, "token", "create")
	if code != ExitOK || out != "skerry1.secret\n" || strings.Contains(errs, "skerry1.") ||
		!strings.Contains(errs, "SKERRY_URL=https://SERVER SKERRY_JOIN_FILE=edge.join sh\n") || !strings.Contains(errs, "token t1, 0 of 1, expires") {
		t.Errorf("exit %d:\n%s%s", code, out, errs)
	}
}
