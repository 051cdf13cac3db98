package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// echo answers on the cluster agent's host, beside it: what passes there says how the wire is.
func (r *Rig) echo() error {
	_, addr := addrOf(tierCluster)
	var ln net.Listener
	err := r.network.In(tierCluster, func() (err error) {
		ln, err = net.Listen("tcp", addr.String()+":"+echoPort)
		return err
	})
	if err != nil {
		return fmt.Errorf("listen for pings: %w", err)
	}
	r.closers = append(r.closers, ln)
	r.work.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection, which its maker or Close ends
				stop := context.AfterFunc(r.life, func() { _ = conn.Close() })
				defer stop()
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	})
	return nil
}

// dialEcho connects from a tier to the host of the cluster agent.
func (r *Rig) dialEcho(ctx context.Context, tier string) (net.Conn, error) {
	if tier == tierCluster {
		tier = tierControl
	}
	host, from := addrOf(tier)
	_, to := addrOf(tierCluster)
	ctx, cancel := context.WithTimeout(ctx, pingWithin)
	defer cancel()
	return dialFrom(ctx, r.network, host, from, to.String()+":"+echoPort)
}

// ping sends a byte and waits for it, in a new connection.
func (r *Rig) ping(ctx context.Context, tier string) (time.Duration, error) {
	return r.push(ctx, tier, 1)
}

// push sends so many bytes and waits for them, in a new connection.
func (r *Rig) push(ctx context.Context, tier string, size int) (time.Duration, error) {
	start := time.Now()
	conn, err := r.dialEcho(ctx, tier)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	err = roundTrip(conn, size, 10*pingWithin)
	return time.Since(start), err
}

// pingKept pings through the connection of the first call for a tier, which is kept.
func (r *Rig) pingKept(ctx context.Context, tier string) (time.Duration, error) {
	start := time.Now()
	conn := r.kept[tier]
	if conn == nil {
		var err error
		if conn, err = r.dialEcho(ctx, tier); err != nil {
			return 0, err
		}
		r.kept[tier] = conn
	}
	err := roundTrip(conn, 1, pingWithin)
	return time.Since(start), err
}

func roundTrip(conn net.Conn, size int, within time.Duration) error {
	if size == 1 {
		within = min(within, pingWithin)
	}
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := conn.Write(make([]byte, size)); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, size))
	return err
}

// ticker is a program on a device that a node agent scrapes. Each answer has a number of its own, so that one that is
// missing in the store is known.
type ticker struct {
	mu     sync.Mutex
	served []time.Time // by number, from 1
	quiet  bool
	calm   int // how often it was hushed
}

// tickSeries is the name of its series, and calmSeries that of the one it answers with while it is hushed: a row that has it was
// made after the faults, whatever its date.
const (
	tickSeries = "fault_tick"
	calmSeries = "fault_calm"
)

func (r *Rig) startTicker(edge string) (*ticker, error) {
	t := &ticker{}
	var ln net.Listener
	err := r.network.In(edge, func() (err error) {
		ln, err = net.Listen("tcp", "127.0.0.1:"+tickPort)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen for scrapes on %s: %w", edge, err)
	}
	srv := &http.Server{Handler: t, ReadHeaderTimeout: 5 * time.Second}
	r.closers = append(r.closers, srv)
	r.work.Go(func() { _ = srv.Serve(ln) }) // until it is closed
	return t, nil
}

// ServeHTTP answers a scrape.
func (t *ticker) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.quiet {
		_, _ = fmt.Fprintf(w, "%s %d\n", calmSeries, t.calm) // the next scrape asks again
		return
	}
	if _, err := fmt.Fprintf(w, "%s %d\n", tickSeries, len(t.served)+1); err == nil {
		t.served = append(t.served, time.Now())
	}
}

// hush ends the numbers; All tells when each was served.
func (t *ticker) hush(quiet bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if quiet && !t.quiet {
		t.calm++
	}
	t.quiet = quiet
}

func (t *ticker) calms() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calm
}

func (t *ticker) all() []time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]time.Time(nil), t.served...)
}

// state is a process's, as in ps(1): proc(5), the field after the name in stat.
func (p *Process) state() (string, error) {
	raw, err := readProc(p.pid(), "stat")
	if err != nil {
		return "", err
	}
	_, rest, ok := strings.Cut(raw, ") ")
	if !ok || rest == "" {
		return "", errors.New("stat without a state")
	}
	return rest[:1], nil
}
