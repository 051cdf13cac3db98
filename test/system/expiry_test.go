package system

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/enroll"
	"github.com/skerry-edge/skerry/edge/identity"
	"github.com/skerry-edge/skerry/mqtt"
)

// nobody is told of enrolments.
type nobody struct{}

func (nobody) Enrolled(api.Node) error { return nil }
func (nobody) Merged(api.Node) error   { return nil }

func (nobody) Revoked(mqtt.Identity) {}

// TestAnExpiredCertificateIsRenewedWithoutHands takes a real enrolment service and a real keeper of a node's identity
// 130 days into the future, with the node off: its certificate (90 days) has expired, the grace (90 days) has not.
func TestAnExpiredCertificateIsRenewedWithoutHands(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	service, endpoint := startEnrolment(t, now)
	token, err := service.CreateToken(enroll.TokenSpec{TTL: time.Hour, MaxUses: 1, By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	join, err := api.ParseJoin(token.Join)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	keep := func() (*identity.Keeper, context.CancelFunc, chan error) {
		clock := agent.NewClock(time.Time{}, agent.ClockSource{System: now, Synced: func() bool { return true }})
		k, err := identity.NewKeeper(identity.KeeperConfig{Dir: dir, Node: "pump-3", Log: slog.New(slog.DiscardHandler),
			Join: func() (*api.Join, error) { return &join, nil }, Client: &identity.Client{Clock: clock}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		done := make(chan error, 1)
		go func() { done <- k.Run(ctx) }()
		select {
		case <-k.Ready():
		case err := <-done:
			t.Fatalf("keeper ended: %v (endpoint %s)", err, endpoint)
		}
		return k, cancel, done
	}
	k, cancel, done := keep()
	first := k.Current()
	if _, err := service.Authorize(first.Leaf()); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	ahead.Store(int64(130 * 24 * time.Hour))
	if _, err := service.Authorize(first.Leaf()); err == nil {
		t.Fatal("an expired certificate is still accepted")
	}
	k, cancel, done = keep()
	defer cancel()
	deadline := time.After(2 * time.Minute)
	for k.Current().Describe() == first.Describe() {
		select {
		case <-deadline:
			t.Fatal("the certificate was not renewed within two minutes")
		case <-time.After(20 * time.Millisecond):
		}
	}
	if who, err := service.Authorize(k.Current().Leaf()); err != nil || who.Name != "pump-3" {
		t.Errorf("renewed certificate is %s's, %v; wanted pump-3's, accepted", who.Name, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func startEnrolment(t *testing.T, now func() time.Time) (*enroll.Service, string) {
	t.Helper()
	dir := t.TempDir()
	db, err := bbolt.Open(filepath.Join(dir, "cluster.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	authority, err := enroll.OpenAuthority(t.Context(), enroll.AuthorityConfig{Dir: filepath.Join(dir, "ca"), Cluster: "c", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	names, err := enroll.NewListener(authority, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := "https://" + ln.Addr().String()
	service, err := enroll.Open(enroll.Config{Cluster: "c", DB: db, Authority: authority, Nodes: nobody{}, Log: slog.New(slog.DiscardHandler),
		Now: now, Endpoints: []string{endpoint}, MQTT: []string{"mqtts://127.0.0.1:8883"}})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: service.Handler(), TLSConfig: service.ServerTLS(names), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.ServeTLS(ln, "", "") }()
	t.Cleanup(func() { _ = srv.Close() })
	return service, endpoint
}
