package cluster

import (
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// Whoever asks for a log or a file is there now: a node that is not is told at once, with since when.
func TestLogsAndFilesOfANodeThatIsOfflineAreRefusedAtOnce(t *testing.T) {
	r := newRig(t, nil)
	r.enrol("new")
	d := r.online("gone", r.enrol("gone"), 1, false)
	d.say(r.topic(mqtt.KindState, "gone", ""), true, api.State{State: api.StateOffline, Epoch: 1, Boot: "b", At: api.At(time.Now()), Reason: "stopped"})
	eventually(t, "offline", func() bool { n, _ := r.registry.Get("gone"); return n.Presence == api.PresenceOffline })
	began := time.Now()
	for node, want := range map[string]string{"new": `^node new is enrolled since 20\S+Z: has never connected$`, "gone": `^node gone is offline since 20\S+Z: stopped$`} {
		for _, ask := range [][2]string{{"GET", "/logs"}, {"GET", "/logs?follow=true"}, {"GET", "/files?path=/x"}, {"PUT", "/files?path=/x&size=3&sha256=5a"}} {
			status, p := r.problem(ask[0], "/v1/nodes/"+node+ask[1], "abc")
			if status != http.StatusConflict || p.Code != "node_offline" || !regexp.MustCompile(want).MatchString(p.Detail) || p.Cure == "" {
				t.Errorf("%s of %s: %d, %+v; wanted 409, %s", ask, node, status, p, want)
			}
		}
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
}
