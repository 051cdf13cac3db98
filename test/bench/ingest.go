package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// The load: what 50 nodes in a hurry to empty their backlog would send.
const (
	senders      = 50
	sendWindow   = 32
	batchSeries  = 20
	batchesShort = 200 // of one sender in one round
	batchesLong  = 400
)

// load is the same payloads for everybody, by sender.
type load [][][]byte

// newLoad encodes batches of one row each. seq goes on where the last round ended, so that nothing is a repetition.
func newLoad(codec *mqtt.Codec, start time.Time, round, batches int) (load, error) {
	out := make(load, senders)
	var series []string
	for i := range batchSeries {
		series = append(series, fmt.Sprintf(`node_bench_bytes{device="disk%d"}`, i))
	}
	for s := range out {
		for i := range batches {
			seq := uint64(round*batches + i + 1)
			b := api.Batch{Epoch: 1, Seq: seq, Prev: seq - 1, Boot: "bench", T0: api.At(start.Add(time.Duration(seq) * 100 * time.Millisecond)),
				Mono: int64(seq) * 100, TimeQuality: api.TimeSynced, Series: series, Rows: []api.Row{{Values: make([]float64, batchSeries)}}}
			for v := range b.Rows[0].Values {
				b.Rows[0].Values[v] = float64(seq*1000) + float64(rand.IntN(1000))
			}
			raw, err := codec.Encode(mqtt.CBOR, &b)
			if err != nil {
				return nil, err
			}
			out[s] = append(out[s], raw)
		}
	}
	return out, nil
}

// ingest compares the cluster agent, which acknowledges what it has stored, with a mosquitto that acknowledges what it
// has read: same payloads, same topics, same generator, in turns.
func ingest(ctx context.Context, o options) ([]row, error) {
	s, err := newSite(ctx, o, "ingest")
	if err != nil {
		return nil, err
	}
	defer s.stop()
	ours, err := s.enroll(ctx, "load", senders)
	if err != nil {
		return nil, err
	}
	addr, err := s.broker()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(o.dir, "mosquitto")
	m, peer, p, err := mosquitto(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer m.stop()
	theirs := make([]client, senders)
	topics := make([]string, senders)
	for i, c := range ours {
		theirs[i] = client{id: c.id, tls: p.client}
		topics[i] = s.topics().Of(mqtt.KindTele, c.id, "")
	}
	rounds, batches := 5, batchesLong
	if o.short {
		rounds, batches = 3, batchesShort
	}
	codec, err := mqtt.NewCodec()
	if err != nil {
		return nil, err
	}
	start := time.Now().Add(-time.Duration((rounds+1)*batches) * 100 * time.Millisecond)
	var us, them []float64
	for round := range rounds + 1 {
		work, err := newLoad(codec, start, round, batches)
		if err != nil {
			return nil, err
		}
		a, err := rate(ctx, ours, addr, topics, work)
		if err != nil {
			return nil, fmt.Errorf("load skerry-cluster: %w", err)
		}
		b, err := rate(ctx, theirs, peer, topics, work)
		if err != nil {
			return nil, fmt.Errorf("load mosquitto: %w", err)
		}
		if round > 0 { // the first one warms up: series are created, heaps grow
			us, them = append(us, a), append(them, b)
		}
	}
	if err := s.hasStored(ctx, uint64((rounds+1)*senders*batches*batchSeries)); err != nil {
		return nil, err
	}
	r := row{What: "ingest, stored before PUBACK", Measured: median(us), Unit: "batches/s",
		Note: fmt.Sprintf("%d senders, window %d, %d×1 samples; median of %d rounds each; reference: mosquitto", senders, sendWindow, batchSeries, rounds)}
	return []row{ratioOf(r, median(them), 0.7, func(ratio, budget float64) bool { return ratio >= budget })}, nil
}

// hasStored checks that what was acknowledged is there.
func (s *site) hasStored(ctx context.Context, want uint64) error {
	if err := s.rest.Get(ctx, "/v1/status", &s.status); err != nil {
		return err
	}
	if s.status.Samples != want {
		return fmt.Errorf("cluster agent stored %d samples of %d it acknowledged", s.status.Samples, want)
	}
	return nil
}

// rate connects everybody, then measures from the first PUBLISH to the last PUBACK.
func rate(ctx context.Context, who []client, addr string, topics []string, work load) (float64, error) {
	sessions, err := connectAll(ctx, who, addr)
	if err != nil {
		return 0, err
	}
	defer closeAll(sessions)
	errs := make([]error, len(sessions))
	var wg sync.WaitGroup
	begin, total := time.Now(), 0
	for i, s := range sessions {
		total += len(work[i])
		wg.Go(func() { errs[i] = s.pour(ctx, topics[i], work[i], sendWindow) })
	}
	wg.Wait()
	return float64(total) / time.Since(begin).Seconds(), errors.Join(errs...)
}

func median(v []float64) float64 { return quantile(v, 0.5) }

// quantile is by the nearest rank.
func quantile(v []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(v))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// mosquitto starts Debian's broker with mutual TLS 1.3, no persistence and no subscriber.
func mosquitto(ctx context.Context, dir string) (*process, string, *papers, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", nil, fmt.Errorf("make directory: %w", err)
	}
	p, err := newPapers(dir)
	if err != nil {
		return nil, "", nil, err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, fmt.Errorf("find a free port: %w", err)
	}
	addr := free.Addr().(*net.TCPAddr)
	if err := free.Close(); err != nil {
		return nil, "", nil, fmt.Errorf("find a free port: %w", err)
	}
	config := fmt.Sprintf(`listener %d 127.0.0.1
cafile %[2]s/ca.crt
certfile %[2]s/server.crt
keyfile %[2]s/server.key
require_certificate true
tls_version tlsv1.3
allow_anonymous true
persistence false
set_tcp_nodelay true
max_inflight_messages 0
max_queued_messages 0
log_dest stderr
log_type error
log_type warning
user root
`, addr.Port, dir)
	path := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, "", nil, fmt.Errorf("write configuration of mosquitto: %w", err)
	}
	m, err := spawn(filepath.Join(dir, "mosquitto.log"), "/usr/sbin/mosquitto", "-c", path)
	if err != nil {
		return nil, "", nil, err
	}
	err = m.until(ctx, "mosquitto", func(ctx context.Context) bool {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // whatever else may have taken the port would keep us waiting
		defer cancel()
		s, err := client{id: "probe", tls: p.client}.connect(ctx, addr.String())
		if err == nil {
			s.close()
		}
		return err == nil
	})
	if err != nil {
		m.stop()
		return nil, "", nil, err
	}
	return m, addr.String(), p, nil
}
