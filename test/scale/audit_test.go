package scale

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// line is an event of an API server's audit log at level Metadata, as Kubernetes 1.37 writes it.
func line(user, verb, resource, subresource string, code int, millis int) string {
	return fmt.Sprintf(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","stage":"ResponseComplete","requestURI":"/x","verb":%q,`+
		`"user":{"username":%q,"groups":["system:authenticated"]},"objectRef":{"resource":%q,"namespace":"kube-node-lease","name":"a","subresource":%q},`+
		`"responseStatus":{"metadata":{},"code":%d},"requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z","stageTimestamp":"2026-01-01T00:00:00.%03d000Z"}`+"\n",
		verb, user, resource, subresource, code, millis)
}

func TestTheAuditLogTellsWhoAskedForWhat(t *testing.T) {
	a := &audit{path: filepath.Join(t.TempDir(), "log")}
	add := func(text string) {
		t.Helper()
		f, err := os.OpenFile(a.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := a.skip(); err == nil {
		t.Error("skip of a log that is not there; wanted an error")
	}
	add(line("us", "create", "nodes", "", 201, 1))
	if err := a.skip(); err != nil {
		t.Fatal(err)
	}
	half := line("us", "delete", "pods", "", 200, 1)
	add(line("us", "update", "leases", "", 200, 10) + line("us", "update", "leases", "", 409, 30) + line("us", "patch", "nodes", "status", 200, 1) +
		line("us", "watch", "pods", "", 200, 900) + line("them", "update", "leases", "", 200, 900) + half[:50])
	got, err := a.take("us")
	if err != nil {
		t.Fatal(err)
	}
	if want := (Requests{"update leases": 2, "patch nodes/status": 1, "watch pods": 1}); !maps.Equal(got.Own, want) {
		t.Errorf("own: %v; wanted %v", got.Own, want)
	}
	if leases, others := got.Own.Writes(); leases != 2 || others != 1 {
		t.Errorf("%d writes of leases and %d others; wanted 2 and 1", leases, others)
	}
	if want := (Requests{"update leases": 1}); !maps.Equal(got.Refused, want) || !maps.Equal(got.Others, want) {
		t.Errorf("refused %v, of others %v; wanted both %v", got.Refused, got.Others, want)
	}
	if math.Abs(got.LeaseSeconds-0.010) > 1e-9 {
		t.Errorf("a renewal takes %v s; wanted 0.01, that of the one that was taken", got.LeaseSeconds)
	}
	add(half[50:])
	if got, err = a.take("us"); err != nil || !maps.Equal(got.Own, Requests{"delete pods": 1}) || got.LeaseSeconds != 0 {
		t.Errorf("what was half a line before: %+v, %v; wanted one deletion", got, err)
	}
	add("garbage\n")
	if _, err := a.take("us"); err == nil || !strings.Contains(err.Error(), "read audit log") {
		t.Errorf("garbage: %v; wanted an error", err)
	}
}

func TestTheTableOfTheBridgeCountsForEachNodeAndMinute(t *testing.T) {
	q := &Quiet{Phase: Phase{Seconds: 120}, Asked: &Asked{Own: Requests{"update leases": 1200, "patch nodes/status": 41, "get pods": 3},
		Refused: Requests{"patch nodes/status": 2}, Others: Requests{"update leases": 50, "list pods": 9}}}
	rows := q.rows("idle", 100)
	first := rows[0]
	if first.Measured != 41.0/100/2 || first.OK || *first.Budget != 0.2 {
		t.Errorf("%+v; wanted 0.205 a minute, over the budget of 0.2", first)
	}
	text := fmt.Sprint(rows)
	for _, want := range []string{"for each node; 41 in all, 2 refused", "idle: others, update leases"} {
		if !strings.Contains(text, want) {
			t.Errorf("the rows do not say %q: %s", want, text)
		}
	}
	if strings.Contains(text, "others, list pods") {
		t.Errorf("reads of others are in the table: %s", text)
	}
	if rows[1].Measured != 6 {
		t.Errorf("%+v; wanted 6 renewals", rows[1])
	}
}
