package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
)

// maxScrape bounds the body of a Prometheus endpoint.
const maxScrape = 4 << 20

// scraper reads a Prometheus endpoint.
type scraper struct {
	name   string
	url    string
	client *http.Client
	reading
}

// newScraper makes a client that holds no idle connection (two goroutines and their buffers each), follows no redirect
// and asks no proxy. Unless another machine is allowed, the address is checked once more when it is dialled: a name
// such as localhost is what a resolver makes of it.
func newScraper(u UserProbe, r reading) *scraper {
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
	return &scraper{name: u.Name, url: u.URL, reading: r, client: &http.Client{
		Timeout: u.Timeout,
		Transport: &http.Transport{
			DialContext: dialer.DialContext, DisableKeepAlives: true, DisableCompression: true,
			MaxResponseHeaderBytes: 16 << 10, TLSHandshakeTimeout: u.Timeout,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("redirected; wanted the metrics themselves")
		},
	}}
}

func (p *scraper) Name() string { return p.name }

func (p *scraper) Read(ctx context.Context, emit func(string, float64)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return fmt.Errorf("scrape %s: %w", p.url, err)
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	resp, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("scrape: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("scrape %s: %s; wanted 200", p.url, resp.Status)
	}
	body := &io.LimitedReader{R: resp.Body, N: maxScrape + 1}
	err = p.text(body, emit)
	if body.N == 0 {
		return fmt.Errorf("scrape %s: longer than %d bytes", p.url, maxScrape)
	}
	if err != nil {
		return fmt.Errorf("scrape %s: %w", p.url, err)
	}
	return nil
}
