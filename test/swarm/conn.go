package swarm

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// line is a connection that can be cut as a cable is, and that may be slow. A slow one makes its writer wait until what
// was written would have arrived.
type line struct {
	*net.TCPConn
	rate    float64 // bytes a second, 0: as fast as it goes
	latency time.Duration
	ctx     context.Context // ends with the line
	end     context.CancelFunc

	mu    sync.Mutex // one writer at a time
	read  time.Time  // until when what was read takes to arrive
	wrote time.Time
}

// maxSources is how many addresses source chooses from at most.
const maxSources = 250 * 250

// source is the address from which node i connects to addr; nil: whichever the kernel takes. An address has some 28,000
// ports, and what the product allows to one address is not what it allows to a fleet.
func (c *Config) source(i int, addr string) net.Addr {
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || ip == nil || ip.To4() == nil || !ip.IsLoopback() || c.Sources < 2 {
		return nil
	}
	i %= c.Sources
	return &net.TCPAddr{IP: net.IPv4(127, 1, byte(1+i/250), byte(1+i%250))}
}

// newLine wraps conn; slow is nil for a good line.
func newLine(ctx context.Context, conn net.Conn, slow *Slow) (*line, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("wrap %T: wanted TCP", conn)
	}
	l := &line{TCPConn: tcp}
	if slow != nil {
		l.rate, l.latency = float64(slow.BytesPerSecond), slow.Latency
		l.ctx, l.end = context.WithCancel(ctx)
	}
	return l, nil
}

// Read reads at most as fast as the line is.
func (l *line) Read(p []byte) (int, error) {
	if l.rate > 0 {
		p = p[:min(len(p), max(64, int(l.rate/8)))]
	}
	n, err := l.TCPConn.Read(p)
	if l.rate > 0 && n > 0 {
		l.pass(&l.read, n, 0)
	}
	return n, err
}

// Write writes at most as fast as the line is, and late.
func (l *line) Write(p []byte) (int, error) {
	if l.rate > 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.pass(&l.wrote, len(p), l.latency)
	}
	return l.TCPConn.Write(p)
}

// pass waits until n bytes more are through.
func (l *line) pass(until *time.Time, n int, latency time.Duration) {
	now := time.Now()
	if until.Before(now) {
		*until = now
	}
	*until = until.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
	agent.Wait(l.ctx, until.Sub(now)+latency)
}

// Close closes the line in an orderly way.
func (l *line) Close() error {
	if l.end != nil {
		l.end()
	}
	return l.TCPConn.Close()
}

// reset ends the connection with a TCP RST: neither side can say anything any more.
func (l *line) reset() {
	_ = l.SetLinger(0) // a connection that is closed already is as good
	_ = l.Close()
}
