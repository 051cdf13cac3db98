package main

import (
	"context"
	"fmt"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// memory divides what idle connections add to the cluster agent by their number. Enrolment comes before the first look.
func memory(ctx context.Context, o options) ([]row, error) {
	n := 250 // what the enrolment service takes from one address without a wait
	if o.short {
		n = 200
	}
	s, err := newSite(ctx, o, "memory")
	if err != nil {
		return nil, err
	}
	defer s.stop()
	all, err := s.enroll(ctx, "idle", n)
	if err != nil {
		return nil, err
	}
	addr, err := s.broker()
	if err != nil {
		return nil, err
	}
	const settle = 5 * time.Second
	if !agent.Wait(ctx, settle) {
		return nil, ctx.Err()
	}
	before, err := procBytes(s.pid(), "status", "VmRSS:")
	if err != nil {
		return nil, err
	}
	sessions, err := connectAll(ctx, all, addr)
	if err != nil {
		return nil, err
	}
	defer closeAll(sessions)
	if !agent.Wait(ctx, settle) {
		return nil, ctx.Err()
	}
	after, err := procBytes(s.pid(), "status", "VmRSS:")
	if err != nil {
		return nil, err
	}
	r := atMost("cluster RSS per idle connection", (after-before)/float64(n)/kib, 45, "KiB")
	r.Note = fmt.Sprintf("%d connections over mutual TLS; RSS %.0f MiB before, %.0f MiB with them", n, before/mib, after/mib)
	return []row{r}, nil
}
