package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// manner is how a front treats connections.
type manner int

const (
	passes  manner = iota
	cuts           // connections end within a second
	refuses        // no connection is let in, and those that are there end
)

// front stands before a server, and passes bytes. Safe for concurrent use.
type front struct {
	dial func(context.Context) (net.Conn, error)

	mu     sync.Mutex
	manner manner
	pairs  map[*joined]bool
	work   sync.WaitGroup
}

// joined is a connection and the one behind it.
type joined struct {
	client, server net.Conn
	dead           atomic.Bool // what comes is thrown away, and nobody is told
}

func newFront(dial func(context.Context) (net.Conn, error)) *front {
	return &front{dial: dial, pairs: map[*joined]bool{}}
}

// serve takes connections until ln is closed, and ends them all with ctx.
func (f *front) serve(ctx context.Context, ln net.Listener) {
	defer f.work.Wait()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			f.work.Go(func() { f.join(ctx, conn) })
		}
	}
}

func (f *front) join(ctx context.Context, client net.Conn) {
	defer client.Close()
	dctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	server, err := f.dial(dctx)
	cancel()
	if err != nil {
		return
	}
	defer server.Close()
	j := &joined{client: client, server: server}
	f.mu.Lock()
	now := f.manner
	if now != refuses {
		f.pairs[j] = true
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.pairs, j)
		f.mu.Unlock()
	}()
	switch now {
	case refuses:
		return
	case cuts:
		timer := time.AfterFunc(time.Duration(50+rand.IntN(900))*time.Millisecond, j.end)
		defer timer.Stop()
	}
	stop := context.AfterFunc(ctx, j.end)
	defer stop()
	back := make(chan struct{})
	go func() { // ends with either connection
		defer close(back)
		j.copy(client, server)
	}()
	j.copy(server, client)
	<-back
}

func (j *joined) end() { _, _ = j.client.Close(), j.server.Close() }

// copy passes bytes until one of the two ends. Of a dead pair neither end learns how the other fares.
func (j *joined) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if j.dead.Load() {
			if err != nil {
				return
			}
			continue
		}
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				err = errors.Join(err, werr)
			}
		}
		if err != nil {
			if !j.dead.Load() {
				j.end()
			}
			return
		}
	}
}

// treat changes the manner; connections that are there end, unless they pass.
func (f *front) treat(m manner) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.manner = m
	if m == passes {
		return
	}
	for j := range f.pairs {
		j.end()
	}
}

// kill has the connections that are there go dead, for good.
func (f *front) kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for j := range f.pairs {
		j.dead.Store(true)
	}
}

func injectWatch(_ context.Context, r *Rig, e Event) (Heal, error) {
	f := r.kube.front
	heal := func(context.Context) error { f.treat(passes); return nil }
	switch e.Params["way"] {
	case 0:
		f.treat(cuts)
	case 1:
		f.kill()
	default:
		f.treat(refuses)
	}
	return heal, nil
}

// frontDial connects as the cluster agent does.
func (r *Rig) frontDial(ctx context.Context) (net.Conn, error) {
	host, _ := addrOf(tierCluster)
	return dialFrom(ctx, r.network, host, netip.Addr{}, "127.0.0.1:"+frontPort)
}

// bitesWatch looks at the way to the API server: at a watch for cuts, at a connection that is kept for dead ones.
func bitesWatch(ctx context.Context, r *Rig, e Event) error {
	switch e.Params["way"] {
	case 0:
		err := r.ask(ctx, r.frontDial, "/api/v1/namespaces?watch=true", 1500*time.Millisecond)
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("a watch lasts: %w", err)
		}
		return nil
	case 1:
		if r.kube.kept == nil {
			client, err := r.kube.plane.Client(r.frontDial)
			if err != nil {
				return err
			}
			r.kube.kept = client
		}
		if err := get(ctx, r.kube.kept, "/livez/ping", pingWithin); err == nil {
			return errors.New("the old connection answers")
		}
		r.kube.kept = nil
		if err := r.ask(ctx, r.frontDial, "/livez/ping", pingWithin); err != nil {
			return fmt.Errorf("a new connection: %w", err)
		}
		return nil
	}
	if err := r.ask(ctx, r.frontDial, "/livez/ping", pingWithin); err == nil {
		return errors.New("a connection is let in")
	}
	return nil
}
