package fault

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// needRoot skips a test without root; under CI that is a failure.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("network namespaces need root")
	}
	t.Skip("network namespaces need root")
}

// twoHosts is a network of a and b; b echoes datagrams and streams on port 7.
func twoHosts(t *testing.T) *Network {
	t.Helper()
	needRoot(t)
	prefix := fmt.Sprintf("skt%d-", os.Getpid())
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := DropSpaces(ctx, prefix); err != nil {
			t.Error(err)
		}
	})
	if err := MakeSpaces(ctx, prefix, []string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	n, err := NewNetwork(prefix, []Host{{"a", []Addr{{"a", netip.MustParseAddr("10.66.0.1")}, {"a2", netip.MustParseAddr("10.66.0.2")}}},
		{"b", []Addr{{"b", netip.MustParseAddr("10.66.0.3")}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	go n.Run(t.Context())
	return n
}

func TestTheSwitchCarriesAndLosesAsTold(t *testing.T) {
	n := twoHosts(t)
	var ln net.Listener
	if err := n.In("b", func() (err error) { ln, err = net.Listen("tcp", "10.66.0.3:7"); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				buf := make([]byte, 1024)
				for {
					k, err := c.Read(buf)
					if err != nil {
						return
					}
					if _, err := c.Write(buf[:k]); err != nil {
						return
					}
				}
			}()
		}
	}()
	dial := func() (net.Conn, error) { return dialFrom(t.Context(), n, "a", netip.Addr{}, "10.66.0.3:7") }
	old, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	echo := func(c net.Conn, within time.Duration) (time.Duration, error) {
		start := time.Now()
		if err := c.SetDeadline(start.Add(within)); err != nil {
			return 0, err
		}
		if _, err := c.Write([]byte("x")); err != nil {
			return 0, err
		}
		_, err := c.Read(make([]byte, 1))
		return time.Since(start), err
	}
	if _, err := echo(old, time.Minute); err != nil {
		t.Fatalf("through a good wire: %v", err)
	}
	n.Disturb("b", Trouble{}, Trouble{DropBegun: time.Now()})
	if _, err := echo(old, 500*time.Millisecond); err == nil {
		t.Error("a connection that is half open still answers")
	}
	fresh, err := dial()
	if err != nil {
		t.Fatalf("a new connection beside one that is half open: %v", err)
	}
	if _, err := echo(fresh, time.Minute); err != nil {
		t.Errorf("a new connection beside one that is half open: %v", err)
	}
	n.Disturb("b", Trouble{Drop: true}, Trouble{})
	if _, err := echo(fresh, 500*time.Millisecond); err == nil {
		t.Error("an answer came through a wire that loses all")
	}
	n.Disturb("b", Trouble{}, Trouble{})
	if _, err := echo(old, time.Minute); err != nil {
		t.Errorf("the wire is good again: %v", err)
	}
	n.Disturb("b", Trouble{Delay: 150 * time.Millisecond}, Trouble{Delay: 150 * time.Millisecond})
	third, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	if took, err := echo(third, time.Minute); err != nil || took < 300*time.Millisecond {
		t.Errorf("an echo took %s, %v; wanted at least 300ms", took, err)
	}
	n.Disturb("b", Trouble{Loss: 0.2, Reorder: 0.3, Duplicate: 0.3}, Trouble{BytesPerSecond: 50_000})
	if _, err := echo(third, time.Minute); err != nil {
		t.Errorf("a bad wire is a wire: %v", err)
	}
}
