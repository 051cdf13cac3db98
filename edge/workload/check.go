package workload

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/exchange"
)

// maxAnswer bounds what is read of the answer to a check.
const maxAnswer = 1 << 10

// ask does what a hook or a check asks for; an error says that it went badly.
func (e *Engine) ask(ctx context.Context, rt Runtime, id string, a api.HealthAction) error {
	switch {
	case a.HTTP != nil:
		return askHTTP(ctx, a.HTTP)
	case a.TCP != nil:
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address(a.TCP.Host, a.TCP.Port))
		if err != nil {
			return err
		}
		return conn.Close()
	}
	var out firstBytes
	exit, err := rt.Exec(ctx, id, Exec{Argv: a.Exec, Streams: Streams{Stdout: &out, Stderr: &out}})
	if err == nil && exit != 0 {
		err = fmt.Errorf("command ended with exit code %d: %s", exit, bytes.TrimSpace(out.data))
	}
	return err
}

// firstBytes keeps the beginning of what is written to it.
type firstBytes struct{ data []byte }

func (f *firstBytes) Write(p []byte) (int, error) {
	f.data = append(f.data, p[:min(len(p), maxAnswer-len(f.data))]...)
	return len(p), nil
}

func address(host string, port int32) string {
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

func askHTTP(ctx context.Context, g *api.HTTPGet) error {
	u := &url.URL{Scheme: "http", Host: address(g.Host, g.Port), Path: "/"}
	if g.Scheme != "" {
		u.Scheme = g.Scheme
	}
	path, query, _ := strings.Cut(g.Path, "?")
	if path != "" {
		u.Path = path
	}
	u.RawQuery = query
	q := &exchange.Request{URL: u, Accept: "*/*", Header: g.Headers}
	if u.Scheme == "https" {
		q.TLS = &tls.Config{InsecureSkipVerify: true} // as a kubelet does: it asks whether something answers, not who
	}
	resp, err := q.Do(ctx)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.Code >= 200 && resp.Code < 400 {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // what came of it
	return fmt.Errorf("answer %s: %s", resp.Status, bytes.TrimSpace(body))
}

// watching are the checks of one run.
type watching struct{ cancel context.CancelFunc }

// watch begins the checks of what runs, and ends those of what does not.
func (e *Engine) watch(ctx context.Context, verdicts map[string]Verdict) {
	wanted := map[string]bool{}
	for name, v := range verdicts {
		for _, w := range v.Watch {
			wanted[w.ID] = true
			c := w.Container
			if e.watches[w.ID] != nil || c.Startup == nil && c.Liveness == nil && c.Readiness == nil {
				continue
			}
			wctx, cancel := context.WithCancel(ctx)
			e.watches[w.ID] = &watching{cancel}
			k := &checker{engine: e, rt: e.sources[w.Runtime].rt, watch: w, began: e.cfg.Now(), tell: func(change func(*Trial)) {
				e.post(wctx, func() { e.checked(name, w, change) })
			}}
			e.wg.Go(func() { k.run(wctx) })
		}
	}
	for id, w := range e.watches {
		if name, _, _, _ := ParseContainerID(id); verdicts[name].Status != nil && !wanted[id] || e.entries[name] == nil {
			w.cancel()
			delete(e.watches, id)
		}
	}
}

// checked takes in what a check found.
func (e *Engine) checked(name string, w Watch, change func(*Trial)) {
	en := e.entries[name]
	if en == nil || e.watches[w.ID] == nil {
		return
	}
	t := en.trials[w.Container.Name]
	if t.Run != w.Run {
		t = Trial{Run: w.Run}
	}
	change(&t)
	en.trials[w.Container.Name] = t
}

// checker makes the checks of one run.
type checker struct {
	engine *Engine
	rt     Runtime
	watch  Watch
	began  time.Time
	tell   func(change func(*Trial))
}

func (k *checker) run(ctx context.Context) {
	c := k.watch.Container
	if c.Startup != nil && !k.watch.Up {
		good := false
		k.repeat(ctx, c.Startup, func(ok bool, why error) bool {
			good = ok
			if !ok {
				k.tell(func(t *Trial) { t.Sick = "Startup probe failed: " + brief(why.Error()) })
			}
			return false
		})
		if !good {
			return
		}
		k.tell(func(t *Trial) { t.Up = true })
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c.Readiness != nil {
			k.repeat(ctx, c.Readiness, func(ok bool, _ error) bool {
				k.tell(func(t *Trial) { t.Ready = ok })
				return true
			})
		}
	}()
	if c.Liveness != nil {
		k.repeat(ctx, c.Liveness, func(ok bool, why error) bool {
			if !ok {
				k.tell(func(t *Trial) { t.Sick = "Liveness probe failed: " + brief(why.Error()) })
			}
			return ok
		})
	}
	<-done
}

// repeat makes one check until ctx ends or turned, which is told each time that the check has become good or bad, is false.
func (k *checker) repeat(ctx context.Context, h *api.HealthCheck, turned func(ok bool, why error) bool) {
	wait := left(k.began, k.watch.Started, time.Duration(h.DelaySeconds)*time.Second)
	var state *bool
	for row := int32(0); ; wait = time.Duration(h.PeriodSeconds) * time.Second {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		actx, cancel := context.WithTimeoutCause(ctx, time.Duration(h.TimeoutSeconds)*time.Second, fmt.Errorf("no answer within %d s", h.TimeoutSeconds))
		err := k.engine.ask(actx, k.rt, k.watch.ID, h.HealthAction)
		if err != nil && actx.Err() != nil {
			err = context.Cause(actx)
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		ok := err == nil
		if ok == (row > 0) {
			row += sign(ok)
		} else {
			row = sign(ok)
		}
		if (state == nil || *state != ok) && (ok && row >= h.Successes || !ok && -row >= h.Failures) {
			state = &ok
			if !turned(ok, err) {
				return
			}
		}
	}
}

// sign counts checks in a row: up while they are good, down while they are bad.
func sign(ok bool) int32 {
	if ok {
		return 1
	}
	return -1
}
