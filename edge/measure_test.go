package edge

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/enrolment"
)

func TestBatchesThatAreNotKeptAreToldOnceAMinute(t *testing.T) {
	a := built(t, (&enrolment.Service{}).Start(t))
	var log bytes.Buffer
	a.log = slog.New(slog.NewTextHandler(&log, nil))
	bad := []api.Batch{{}} // no batch: refused, as each is on a full disk
	for range 100 {
		a.keepBatches(bad)
	}
	if n := strings.Count(log.String(), "batch not kept"); n != 1 {
		t.Fatalf("told %d times of a hundred:\n%s", n, log.String())
	}
	a.batching.unkeptAt = time.Now().Add(-time.Hour)
	if a.keepBatches(bad); !strings.Contains(log.String(), "count=100") {
		t.Errorf("a minute later: %s; wanted how many there were", log.String())
	}
}
