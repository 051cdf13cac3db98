package probe

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"syscall"
	"time"

	"github.com/skerry-edge/skerry/edge/exchange"
)

// maxScrape bounds the body of a Prometheus endpoint.
const maxScrape = 4 << 20

// scraper reads a Prometheus endpoint.
type scraper struct {
	name    string
	url     *url.URL
	timeout time.Duration // from dialling to the last byte
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	reading
}

// newScraper follows no redirect and asks no proxy. Unless another machine is allowed, the address is checked once more
// when it is dialled: a name such as localhost is what a resolver makes of it.
func newScraper(u UserProbe, r reading) (*scraper, error) {
	target, err := url.Parse(u.URL)
	if err != nil {
		return nil, fmt.Errorf("scrape %s: %w", u.Name, err)
	}
	dialer := &net.Dialer{Timeout: u.Timeout}
	if !u.AllowRemote {
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return fmt.Errorf("address %q: %w", address, err)
			}
			if !net.ParseIP(host).IsLoopback() {
				return fmt.Errorf("address %s is not on this machine; set allowRemote", host)
			}
			return nil
		}
	}
	return &scraper{name: u.Name, url: target, timeout: u.Timeout, dial: dialer.DialContext, reading: r}, nil
}

func (p *scraper) Name() string { return p.name }

func (p *scraper) Read(ctx context.Context, emit func(string, float64)) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	resp, err := (&exchange.Request{URL: p.url, Accept: "text/plain;version=0.0.4", Dial: p.dial}).Do(ctx)
	if err != nil {
		return fmt.Errorf("scrape: %w", err)
	}
	defer resp.Body.Close()
	switch {
	case resp.Code >= 300 && resp.Code < 400:
		return fmt.Errorf("scrape %s: redirected; wanted the metrics themselves", p.url.Redacted())
	case resp.Code != 200:
		return fmt.Errorf("scrape %s: %s; wanted 200", p.url.Redacted(), resp.Status)
	}
	body := &io.LimitedReader{R: resp.Body, N: maxScrape + 1}
	err = p.text(body, emit)
	if body.N == 0 {
		return fmt.Errorf("scrape %s: longer than %d bytes", p.url.Redacted(), maxScrape)
	}
	if err != nil {
		return fmt.Errorf("scrape %s: %w", p.url.Redacted(), err)
	}
	return nil
}
