package identity

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/enrolment"
)

// TestABegunEnrolmentIsKeptUntilItIsDone has a device wait for approval: what it was given once serves whoever asks later.
func TestABegunEnrolmentIsKeptUntilItIsDone(t *testing.T) {
	var approved atomic.Bool
	s := &enrolment.Service{Now: noon}
	s.Enroll = func(r *api.EnrollRequest) (*api.EnrollReply, *api.Problem) {
		if approved.Load() {
			return s.Issue(r.Node, r.CSR), nil
		}
		return &api.EnrollReply{Status: api.EnrollPending, RetryAfterMillis: 1, Time: api.At(noon())}, nil
	}
	n := joining(t, s.Start(t))
	k, err := NewKeeper(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	eventually(t, "the wait is kept", func() bool {
		p, err := LoadPending(n.dir)
		return err == nil && p.Join == s.Join().String() && p.Waiting == api.At(noon())
	})
	file := filepath.Join(n.dir, pendingName)
	if got := mode(t, file); got != 0o600 {
		t.Errorf("mode %v; it holds a secret", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	approved.Store(true)
	n.enrolled()
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the join string is still there: %v", err)
	}
	if err := (Pending{Join: "x"}).save(n.dir); err != nil {
		t.Fatal(err)
	}
	n.enrolled() // as after a crash between the certificate and the end of the enrolment
	if p, err := LoadPending(n.dir); err != nil || p != (Pending{}) {
		t.Errorf("left over: %+v, %v", p, err)
	}
}

// TestARefusalIsToldOnceAndAnotherJoinStringIsTakenAtOnce replaces the file that the join string is read from.
func TestARefusalIsToldOnceAndAnotherJoinStringIsTakenAtOnce(t *testing.T) {
	s := &enrolment.Service{Now: noon}
	var tries atomic.Int32
	s.Enroll = func(r *api.EnrollRequest) (*api.EnrollReply, *api.Problem) {
		if r.TokenID == "token-2" {
			return s.Issue(r.Node, r.CSR), nil
		}
		tries.Add(1)
		return nil, refusal(http.StatusUnauthorized, "token_used_up", "make another")
	}
	s.Start(t)
	var second atomic.Bool
	n := newNode(t, func() (*api.Join, error) {
		j := s.Join()
		if second.Load() {
			j.ID = "token-2"
		}
		return &j, nil
	})
	k, err := NewKeeper(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	k.rarely.Min, k.look = time.Millisecond, time.Millisecond
	k.rarely.Max = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	eventually(t, "it has asked again and again", func() bool { return tries.Load() > 3 })
	if !strings.Contains(k.Trouble(), "make another") {
		t.Errorf("trouble %q", k.Trouble())
	}
	second.Store(true)
	<-k.Ready()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := strings.Count(n.log.String(), "enrolment refused"); got != 1 {
		t.Errorf("told %d times; wanted once:\n%s", got, n.log.String())
	}
	if k, err = NewKeeper(n.cfg); err != nil || k.rarely.Min < time.Minute || k.look > time.Minute {
		t.Errorf("asks every %v, looks every %v, error %v", k.rarely.Min, k.look, err)
	}
}
