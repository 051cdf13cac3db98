package enroll

import (
	"net/netip"
	"testing"
	"time"
)

func TestFailuresOfAllSlowOnlyThoseWhoFail(t *testing.T) {
	l, now := newLimiter(), newClock().now()
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for i := range globalBurst { // each fails once
		if v := l.admit(addr(i), now); v.code != "" {
			t.Fatalf("caller %d: %+v", i, v)
		}
		l.failed(addr(i), now)
	}
	if v := l.admit(addr(0), now); v.code != CodeTooManyFailed || v.wait <= 0 {
		t.Errorf("who failed: %+v", v)
	}
	if v := l.admit(addr(globalBurst+1), now); v.code != "" {
		t.Errorf("who never failed: %+v", v)
	}
	if v := l.admit(addr(0), now.Add(time.Minute)); v.code != "" {
		t.Errorf("who failed a minute ago: %+v", v)
	}
}

func TestRequestsAreBoundedForEachNetwork(t *testing.T) {
	l, now := newLimiter(), newClock().now()
	refused := 0
	for i := range requestBurst + 10 { // one /64 has many addresses
		a := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i), 14: byte(i >> 8)})
		if l.admit(a, now).code == CodeTooMany {
			refused++
		}
	}
	if refused != 10 {
		t.Errorf("%d refused; wanted 10", refused)
	}
	if v := l.admit(netip.MustParseAddr("2001:db8:0:1::1"), now); v.code != "" {
		t.Errorf("another network: %+v", v)
	}
	if v := l.admit(netip.Addr{}, now); v.code != "" {
		t.Errorf("no address: %+v", v)
	}
}

func TestTheLimiterForgetsCallersRatherThanGrow(t *testing.T) {
	l, now := newLimiter(), newClock().now()
	for i := range 3 * maxCallers {
		l.admit(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
		if len(l.callers) > maxCallers {
			t.Fatalf("%d callers are remembered; wanted at most %d", len(l.callers), maxCallers)
		}
	}
	l.admit(netip.MustParseAddr("192.0.2.1"), now.Add(callerIdle+time.Second))
	for i := range maxCallers / 2 {
		l.admit(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), now.Add(callerIdle+time.Second))
	}
	if _, ok := l.callers[subscriber(netip.MustParseAddr("192.0.2.1"))]; !ok {
		t.Error("a caller of now was forgotten while idle ones could have been")
	}
}
