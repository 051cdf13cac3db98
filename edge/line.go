package edge

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/mqtt"
)

// line keeps one link running, and replaces it when the configuration of the link changes. Safe for concurrent use.
type line struct {
	build func(cfg configs.Edge) (*mqtt.Link, error)

	replacing atomic.Bool // the link that ends makes room for another

	mu    sync.Mutex
	link  *mqtt.Link    // the current one
	next  chan struct{} // closed when link has been replaced
	crowd time.Duration // as the cluster agent told last, for the next one too
}

func newLine(build func(cfg configs.Edge) (*mqtt.Link, error)) *line {
	return &line{build: build, next: make(chan struct{})}
}

// use builds a link of cfg and puts it in the place of the current one.
func (l *line) use(cfg configs.Edge) (*mqtt.Link, error) {
	link, err := l.build(cfg)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.link = link
	link.SetCrowd(l.crowd)
	close(l.next)
	l.next = make(chan struct{})
	return link, nil
}

func (l *line) current() (*mqtt.Link, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.link, l.next
}

// setCrowd passes on how long the broker takes to let everybody in.
func (l *line) setCrowd(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.crowd = d
	l.link.SetCrowd(d)
}

// Run runs the current link, and the one that replaces it, until ctx ends.
func (l *line) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		link, replaced := l.current()
		if link == nil {
			return fmt.Errorf("run link: none was built")
		}
		lctx, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- link.Run(lctx) }()
		select {
		case <-replaced:
			l.replacing.Store(true)
			cancel()
			err := <-done
			l.replacing.Store(false)
			if err != nil {
				return err
			}
		case err := <-done: // ctx ended, or the link gave up, which it never does
			cancel()
			return err
		}
	}
	return nil
}

// Publish publishes on the current link.
func (l *line) Publish(ctx context.Context, topic string, payload []byte, retain bool) error {
	link, _ := l.current()
	return link.Publish(ctx, topic, payload, retain)
}

// AwaitUp waits until the current link is up, whichever that is by then.
func (l *line) AwaitUp(ctx context.Context) error {
	for {
		link, replaced := l.current()
		select {
		case <-link.Up():
			return nil
		case <-replaced:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// up reports whether the current link is up.
func (l *line) up() bool {
	link, _ := l.current()
	select {
	case <-link.Up():
		return true
	default:
		return false
	}
}

func (l *line) status() mqtt.LinkStatus {
	link, _ := l.current()
	return link.Status()
}

// brokerTLS is asked before every connect, so a renewed certificate is used at once.
func (a *Agent) brokerTLS(host string) (*tls.Config, error) {
	return a.keeper.Current().BrokerTLS(host, a.clock), nil
}
