package swarm

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// stats are the moving figures of a swarm.
type stats struct {
	online, started           atomic.Int64
	made, acked, putFailed    atomic.Uint64 // samples; failed puts are batches
	attempts                  atomic.Uint64 // connects tried
	resets, leaves, sleeps    atomic.Uint64
	ingest, ack               Histogram
	mu                        sync.Mutex
	in, out, reconnects, lost uint64 // of links that are over
}

// linked adds up a link that is over.
func (s *stats) linked(l mqtt.LinkStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in += l.BytesIn
	s.out += l.BytesOut
	s.reconnects += l.Reconnects
	s.lost += l.Overflows + l.Refused
}

// Figures is how a swarm stands.
type Figures struct {
	Nodes      int         `json:"nodes"`      // of the profile
	Started    int         `json:"started"`    // of these
	Online     int         `json:"online"`     // of these
	Connecting int         `json:"connecting"` // started, to be online, and not
	Made       uint64      `json:"samplesMade"`
	Acked      uint64      `json:"samplesAcked"`
	Dropped    api.Dropped `json:"dropped"`     // by the nodes' outboxes
	PutFailed  uint64      `json:"putsRefused"` // batches that an outbox did not take; counted in dropped
	Backlog    int         `json:"backlogBatches"`
	Bytes      int64       `json:"backlogBytes"`
	Lag        Seconds     `json:"ackLag"` // age of the oldest row on its way
	Attempts   uint64      `json:"connectAttempts"`
	Reconnects uint64      `json:"reconnects"`
	Resets     uint64      `json:"resets"`
	Leaves     uint64      `json:"goodbyes"`
	Sleeps     uint64      `json:"sleeps"`
	Commands   int         `json:"commandsOnNodes"`
	Effects    int         `json:"sideEffects"`
	BytesIn    uint64      `json:"bytesIn"`
	BytesOut   uint64      `json:"bytesOut"`
	RSSBytes   int64       `json:"rssBytes"`
	BaseBytes  int64       `json:"rssBaseBytes"` // before the first node was started
	Goroutines int         `json:"goroutines"`
}

// PerNode is the growth of this process's resident memory for each node that was started.
func (f *Figures) PerNode() int64 {
	if f.Started == 0 {
		return 0
	}
	return (f.RSSBytes - f.BaseBytes) / int64(f.Started)
}

// manyNodes is from how many on the growth of this process, divided by the nodes, tells what one more of them takes: with
// few the process's own memory, which comes with the first, is most of it.
const manyNodes = 500

// each is the growth for each node, for people; empty when it would mislead.
func (f *Figures) each() string {
	if f.Started < manyNodes {
		return ""
	}
	return fmt.Sprintf(", %.0f KiB/node", float64(f.PerNode())/1024)
}

// Seconds is a duration that JSON shows in seconds.
type Seconds time.Duration

// MarshalJSON writes seconds.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(s).Seconds(), 'f', 6, 64), nil
}

// String is that of time.Duration, to three digits.
func (s Seconds) String() string {
	d := time.Duration(s)
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}

// residentBytes is this process's RSS: proc(5), the second field of statm.
func residentBytes() int64 {
	raw, err := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(raw)
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
