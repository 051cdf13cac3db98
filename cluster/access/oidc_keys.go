package access

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	// fetchEvery is how often keys are fetched at most: anybody may send a token with an invented key id, and must not
	// thereby make us knock at the issuer.
	fetchEvery     = 10 * time.Second
	maxIssuerBytes = 1 << 20 // an answer of the issuer
)

// bounded takes only whole, small and good answers.
type bounded struct{ next http.RoundTripper }

// RoundTrip makes one request.
func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &cut{io.LimitReader(resp.Body, maxIssuerBytes), resp.Body}
	return resp, nil
}

type cut struct {
	io.Reader
	io.Closer
}

// errFresh says that the keys were fetched a moment ago; what is not among them is no key.
var errFresh = errors.New("keys were fetched a moment ago")

// throttled lets one fetch of keys through in fetchEvery, and meanwhile answers what became of that one.
type throttled struct {
	now  func() time.Time
	next http.RoundTripper

	mu   sync.Mutex
	at   time.Time
	last error
}

// RoundTrip fetches keys, if it is time.
func (t *throttled) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	defer t.mu.Unlock() // the library has one fetch under way at a time
	if since := t.now().Sub(t.at); !t.at.IsZero() && since >= 0 && since < fetchEvery {
		if t.last != nil {
			return nil, t.last
		}
		return nil, errFresh
	}
	resp, err := t.next.RoundTrip(r)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.Join(fmt.Errorf("fetch keys from %s: answer is %s", r.URL.Redacted(), resp.Status), resp.Body.Close())
	}
	t.at, t.last = t.now(), err
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// keySet tells a bad signature from keys that could not be fetched, which the library reports alike.
type keySet struct{ remote *oidc.RemoteKeySet }

type fetchKey struct{}

// fetch is why keys could not be had.
type fetch struct{ err error }

func watchFetch(ctx context.Context) (context.Context, *fetch) {
	f := &fetch{}
	return context.WithValue(ctx, fetchKey{}, f), f
}

// VerifySignature is called by the library, which has checked the algorithm.
func (k *keySet) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := k.remote.VerifySignature(ctx, jwt)
	if f, ok := ctx.Value(fetchKey{}).(*fetch); ok && err != nil && !errors.Is(err, errFresh) {
		if _, unreachable := errors.AsType[*url.Error](err); unreachable {
			f.err = err
		}
	}
	if errors.Is(err, errFresh) {
		err = errors.New("no key of the issuer's made its signature")
	}
	return payload, err
}
