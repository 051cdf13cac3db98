package enroll

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The budgets. A site of many devices behind one address may join at once; who guesses secrets may not go on. Guessing
// 160 bits is hopeless at any rate; what is guarded is this machine's time and its log.
const (
	requestRate   = 20 // a second and address
	requestBurst  = 200
	failureRate   = 1.0 / 6 // ten a minute and address
	failureBurst  = 20
	globalRate    = 10 // failures a second, all addresses
	globalBurst   = 500
	maxCallers    = 8192
	callerIdle    = 10 * time.Minute // after which every budget is full again
	retryRequests = time.Second
	retryFailures = 30 * time.Second
)

// limiter bounds the requests of each address and the failures of each and all. Safe for concurrent use.
type limiter struct {
	mu      sync.Mutex
	callers map[netip.Prefix]*caller
	all     *rate.Limiter
}

type caller struct {
	requests, failures *rate.Limiter
	seen               time.Time
}

func newLimiter() *limiter {
	return &limiter{callers: make(map[netip.Prefix]*caller), all: rate.NewLimiter(globalRate, globalBurst)}
}

// verdict is what the limiter says of a request. wait is when to ask again.
type verdict struct {
	code string // empty: go on
	wait time.Duration
}

// admit takes one request from an address. When failures are all too many in sum, who never failed is still heard.
func (l *limiter) admit(from netip.Addr, now time.Time) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.caller(from, now)
	if !c.requests.AllowN(now, 1) {
		return verdict{CodeTooMany, retryRequests}
	}
	left := c.failures.TokensAt(now)
	if left < 1 || l.all.TokensAt(now) < 1 && left < failureBurst {
		return verdict{CodeTooManyFailed, retryFailures}
	}
	return verdict{}
}

// failed notes that a request did not know a valid token.
func (l *limiter) failed(from netip.Addr, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.caller(from, now).failures.AllowN(now, 1)
	l.all.AllowN(now, 1)
}

func (l *limiter) caller(from netip.Addr, now time.Time) *caller {
	key := subscriber(from)
	c := l.callers[key]
	if c == nil {
		if len(l.callers) >= maxCallers {
			l.evict(now)
		}
		c = &caller{requests: rate.NewLimiter(requestRate, requestBurst),
			failures: rate.NewLimiter(rate.Limit(failureRate), failureBurst)}
		l.callers[key] = c
	}
	c.seen = now
	return c
}

// evict makes room: who was idle for long first, and when nobody was, an arbitrary quarter. The budget of all holds on.
func (l *limiter) evict(now time.Time) {
	for key, c := range l.callers {
		if now.Sub(c.seen) > callerIdle {
			delete(l.callers, key)
		}
	}
	for key := range l.callers {
		if len(l.callers) <= maxCallers*3/4 {
			return
		}
		delete(l.callers, key)
	}
}

// subscriber is the network that one caller owns: an IPv4 address, an IPv6 /64.
func subscriber(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil { // the zero address: callers without an address share one budget
		return netip.Prefix{}
	}
	return p
}
