package telemetry

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/prompb"
)

// receiver keeps what it is sent, and answers as it is told.
type receiver struct {
	*httptest.Server
	status atomic.Int32                // 0: take it
	judge  func(prompb.TimeSeries) int // a status for a request that has such a series

	mu      sync.Mutex
	got     map[string]int // "series@time=value" → times
	headers []http.Header
	batches int
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{got: map[string]int{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if code := r.status.Load(); code != 0 {
		http.Error(w, "not now", int(code))
		return
	}
	body, err := io.ReadAll(req.Body)
	if err == nil {
		body, err = snappy.Decode(nil, body)
	}
	var msg prompb.WriteRequest
	if err == nil {
		err = msg.Unmarshal(body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ts := range msg.Timeseries {
		if r.judge != nil {
			if code := r.judge(ts); code != 0 {
				http.Error(w, "no", code)
				return
			}
		}
	}
	r.batches++
	r.headers = append(r.headers, req.Header)
	for _, ts := range msg.Timeseries {
		name := ""
		for _, l := range ts.Labels {
			name += l.Name + "=" + l.Value + ","
		}
		for _, s := range ts.Samples {
			r.got[fmt.Sprintf("%s@%d=%v", name, s.Timestamp, s.Value)]++
		}
	}
}

func (r *receiver) distinct() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

func (r *receiver) remote() []Remote {
	return []Remote{{Name: "peer", URL: r.URL, Headers: map[string]string{"X-Scope-OrgID": "site"}}}
}

func TestRemoteWriteSendsEverySampleLateOnesToo(t *testing.T) {
	rec := newReceiver(t)
	cfg := Config{Dir: t.TempDir(), Remotes: rec.remote()}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Remotes[0].BearerFile = token
	s := start(t, cfg)
	now := time.Now().Truncate(time.Second)
	count := 0
	for i := range 50 {
		mustAppend(t, s.Store, fmt.Sprintf("n%d", i%5), batch("m", now.Add(time.Duration(i-60)*time.Second), 0, float64(i)))
		mustAppend(t, s.Store, fmt.Sprintf("n%d", i%5), batch("m", now.Add(-time.Duration(i+1)*time.Hour), time.Minute, 1, 2))
		count += 3
	}
	eventually(t, "all samples arrive", func() bool { return rec.distinct() == count })
	eventually(t, "all are counted as sent", func() bool { return sent(s) == count }) // the answer comes after the samples
	rec.mu.Lock()
	defer rec.mu.Unlock()
	h := rec.headers[0]
	for name, want := range map[string]string{"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf",
		"X-Prometheus-Remote-Write-Version": "0.1.0", "X-Scope-Orgid": "site", "Authorization": "Bearer s3cret"} {
		if h.Get(name) != want {
			t.Errorf("header %s is %q; wanted %q", name, h.Get(name), want)
		}
	}
	if rec.got[fmt.Sprintf("__name__=m,cluster=site,node=n0,@%d=0", now.Add(-60*time.Second).UnixMilli())] != 1 {
		t.Error("the first sample did not come exactly once")
	}
}

func TestRemoteWriteGoesOnWhereItWasAfterOutageAndRestart(t *testing.T) {
	rec := newReceiver(t)
	cfg := Config{Dir: t.TempDir(), Remotes: rec.remote(), walSegmentBytes: 2 * walPage}
	now := time.Now().Truncate(time.Second)
	count := 0
	feed := func(s *running, n int) {
		t.Helper()
		for range n {
			mustAppend(t, s.Store, "n", batch(numbered(count), now, 0, float64(count)))
			count++
		}
	}
	s := start(t, cfg)
	feed(s, 100)
	eventually(t, "the first part arrives", func() bool { return rec.distinct() == 100 })
	rec.status.Store(http.StatusServiceUnavailable)
	feed(s, 2000)
	eventually(t, "it is tried again", func() bool { return testutil.ToFloat64(s.metrics.remoteRetry.WithLabelValues("peer")) > 2 })
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, cfg) // the receiver is still away
	feed(s, 2000)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	rec.status.Store(0)
	s = start(t, cfg)
	feed(s, 100)
	eventually(t, "all samples arrive", func() bool { return rec.distinct() == count })
	// Before that, its position is not written down: it would send the last again after a stop.
	eventually(t, "all but the first part are counted as sent", func() bool { return sent(s) == count-100 })
	if gaps := testutil.ToFloat64(s.metrics.remoteGaps.WithLabelValues("peer")); gaps != 0 {
		t.Errorf("%v gaps; wanted none", gaps)
	}
	rec.mu.Lock()
	for sample, times := range rec.got {
		if times != 1 {
			t.Errorf("%s came %d times", sample, times)
		}
	}
	rec.mu.Unlock()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, cfg)
	before := rec.distinct()
	feed(s, 1)
	eventually(t, "the next sample arrives", func() bool { return rec.distinct() == before+1 })
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for sample, times := range rec.got {
		if times != 1 {
			t.Errorf("%s came %d times after a restart", sample, times)
		}
	}
}

func TestRemoteWriteOutlivesTheTruncationOfTheLog(t *testing.T) {
	rec := newReceiver(t)
	rec.status.Store(http.StatusBadGateway)
	cfg := Config{Dir: t.TempDir(), Remotes: rec.remote(), walSegmentBytes: 2 * walPage}
	now := time.Now().Truncate(time.Second)
	s := start(t, cfg)
	count := 0
	for h := 8; h >= 0; h-- {
		for i := range 1500 {
			mustAppend(t, s.Store, "n", batch(numbered(i+h), now.Add(-time.Duration(h)*time.Hour), 0, 1))
			count++
		}
		r := s.remotes[0]
		eventually(t, "the queue takes the log", func() bool {
			wal, err := segments(filepath.Join(cfg.Dir, "wal"))
			if err != nil {
				t.Fatal(err)
			}
			kept, err := segments(r.mirror.dir)
			return err == nil && len(kept) > 0 && kept[len(kept)-1] >= wal[len(wal)-1]
		})
	}
	wal := filepath.Join(cfg.Dir, "wal")
	if err := s.session.db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names, err := segments(wal); err != nil || slices.Contains(names, "00000000") {
		t.Fatalf("the log was not truncated: %v, %v", names, err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	rec.status.Store(0)
	s = start(t, cfg)
	eventually(t, "all samples arrive", func() bool { return rec.distinct() == count })
	if gaps := testutil.CollectAndCount(s.metrics.remoteGaps) + int(testutil.ToFloat64(s.metrics.remoteDropped.WithLabelValues("peer"))); gaps != 0 {
		t.Errorf("%v gaps and drops; wanted none", gaps)
	}
	eventually(t, "what was sent is freed", func() bool {
		mustAppend(t, s.Store, "n", batch("tick", time.UnixMilli(time.Now().UnixMilli()), 0, 1))
		kept, err := s.remotes[0].mirror.segments()
		return err == nil && kept[0] > 0
	})
}

func TestAFullRemoteWriteQueueDropsTheOldestAndCounts(t *testing.T) {
	rec := newReceiver(t)
	rec.status.Store(http.StatusInternalServerError)
	cfg := Config{Dir: t.TempDir(), Remotes: rec.remote(), walSegmentBytes: 2 * walPage}
	cfg.Remotes[0].QueueBytes = 6 * walPage
	s := start(t, cfg)
	now := time.Now().Truncate(time.Second)
	const count = 6000
	for i := range count {
		mustAppend(t, s.Store, "n", batch(numbered(i), now, 0, 1))
	}
	dropped := func() int { return int(testutil.ToFloat64(s.metrics.remoteDropped.WithLabelValues("peer"))) }
	eventually(t, "the queue runs over", func() bool { return dropped() > 0 })
	rec.status.Store(0)
	eventually(t, "every sample is sent or counted", func() bool { return rec.distinct()+dropped() >= count })
	if rec.distinct()+dropped() != count || rec.distinct() == 0 {
		t.Errorf("%d sent and %d dropped of %d", rec.distinct(), dropped(), count)
	}
}

func TestARefusedSampleDoesNotTakeItsCompanyWithIt(t *testing.T) {
	rec := newReceiver(t)
	rec.status.Store(http.StatusBadGateway) // until all are in the log
	rec.judge = func(ts prompb.TimeSeries) int {
		if ts.Labels[0].Value == "bad" {
			return http.StatusBadRequest
		}
		return 0
	}
	s := start(t, Config{Remotes: rec.remote()})
	now := time.Now().Truncate(time.Second)
	for i := range 500 {
		name := "good"
		if i == 333 {
			name = "bad"
		}
		mustAppend(t, s.Store, "n", batch(name, now.Add(time.Duration(i-500)*time.Second), 0, 1))
	}
	rec.status.Store(0)
	eventually(t, "the good ones arrive", func() bool { return rec.distinct() == 499 })
	eventually(t, "the bad one is counted", func() bool { return testutil.ToFloat64(s.metrics.remoteDropped.WithLabelValues("peer")) == 1 })
}

func TestAQueueOfNoReceiverIsRemoved(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "remote", "gone")
	if err := os.MkdirAll(old, 0o700); err != nil {
		t.Fatal(err)
	}
	start(t, Config{Dir: dir})
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("stat: %v; wanted it gone", err)
	}
}

func TestPeerRemoteWriteSurvivesTheReceiversOutage(t *testing.T) {
	p := newPeer(t)
	s := start(t, Config{Remotes: []Remote{{Name: "peer", URL: p.url("/api/v1/write")}}})
	now := time.Now().Truncate(time.Second)
	from := now.Add(-30 * time.Minute)
	count := 0
	feed := func(n int) {
		for range n {
			mustAppend(t, s.Store, "n", batch("m", from.Add(time.Duration(count)*time.Second), 0, float64(count)))
			count++
		}
	}
	there := func() bool {
		_, body := get(t, p.url("/api/v1/query"), url.Values{"query": {"count_over_time(m[1h])"}, "time": {fmt.Sprint(now.Unix())}})
		return canonical(t, body) == canonical(t, fmt.Sprintf(`{"status":"success","data":{"resultType":"vector","result":`+
			`[{"metric":{"cluster":"site","node":"n"},"value":[%d,"%d"]}]}}`, now.Unix(), count))
	}
	feed(300) // before it is there at all
	p.start()
	eventually(t, "the first part arrives", there)
	p.stop()
	feed(600)
	eventually(t, "the outage is noticed", func() bool { return testutil.ToFloat64(s.metrics.remoteRetry.WithLabelValues("peer")) > 3 })
	p.start()
	feed(300)
	eventually(t, "no sample is missing", there)
}

func TestAReceiverThatFailsIsToldUntilItTakesAgain(t *testing.T) {
	rec := newReceiver(t)
	rec.status.Store(http.StatusServiceUnavailable)
	remotes := rec.remote()
	remotes[0].URL = strings.Replace(rec.URL, "http://", "http://user:hunter2@", 1)
	s := start(t, Config{Dir: t.TempDir(), Remotes: remotes})
	if got := s.RemoteFaults(); len(got) != 0 {
		t.Errorf("before anything was sent: %+v", got)
	}
	mustAppend(t, s.Store, "n", batch("m", time.Now(), 0, 1))
	eventually(t, "the fault is told", func() bool { return len(s.RemoteFaults()) == 1 })
	if f := s.RemoteFaults()[0]; !strings.Contains(f.Err.Error(), "503") || strings.Contains(f.URL, "hunter2") || f.Since.IsZero() {
		t.Errorf("%+v", f)
	}
	rec.status.Store(0)
	eventually(t, "it is over", func() bool { return len(s.RemoteFaults()) == 0 })
}
