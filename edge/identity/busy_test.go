package identity

import (
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/edge/exchange"
)

func answer(status int, retry, body string) *exchange.Response {
	r := &exchange.Response{Code: status, Status: fmt.Sprint(status), Header: textproto.MIMEHeader{}, Body: io.NopCloser(strings.NewReader(body))}
	if retry != "" {
		r.Header.Set("Retry-After", retry)
	}
	return r
}

func TestABusyServiceIsGivenTheTimeItAsksFor(t *testing.T) {
	for _, c := range []struct {
		status int
		retry  string
		want   time.Duration
	}{
		{429, "30", 30 * time.Second}, {503, "1", time.Second}, {429, "", 0}, {429, "soon", 0}, {429, "-5", 0},
		{429, "999999", maxBusyWait}, {429, "Wed, 21 Oct 2026 07:28:00 GMT", 0},
	} {
		_, err := readReply(answer(c.status, c.retry, `{"status":429,"title":"Too Many Requests","code":"too_many_requests","detail":"slow down"}`))
		busy, ok := errors.AsType[*BusyError](fmt.Errorf("enrol n1: %w", errors.Join(err)))
		if !ok || busy.Wait != c.want || !strings.Contains(err.Error(), "slow down") {
			t.Errorf("%d, Retry-After %q: %v; wanted a wait of %s", c.status, c.retry, err, c.want)
			continue
		}
		for range 100 {
			if w := atLeast(time.Millisecond, err); c.want > 0 && (w < c.want || w > c.want*3/2) {
				t.Fatalf("Retry-After %q: next try in %s", c.retry, w)
			}
		}
		if w := atLeast(time.Hour, err); w != time.Hour {
			t.Errorf("a longer backoff became %s", w)
		}
	}
	_, err := readReply(answer(401, "", `{"status":401,"title":"Unauthorized","code":"token_invalid"}`))
	if _, ok := errors.AsType[*api.Problem](err); !ok {
		t.Errorf("a refusal is %v; wanted the problem itself, which ends the round", err)
	}
}
