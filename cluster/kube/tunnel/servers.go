package tunnel

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"

	"github.com/skerry-edge/skerry/agent"
)

// Servers finds the servers of a cluster: the endpoints of the service kubernetes, which each API server keeps for itself.
type Servers struct {
	Slices discoveryclient.EndpointSliceInterface // of the namespace default
	First  string                                 // host:port of the server that we speak to, for as long as no endpoint is known
	Log    *slog.Logger

	mu  sync.Mutex
	why error
}

// only is the one slice: the name has the right be for this object alone.
var only = metav1.ListOptions{FieldSelector: "metadata.name=kubernetes"}

// Follow tells all servers, and again when they may have changed, until ctx ends.
func (s *Servers) Follow(ctx context.Context, tell func([]string)) {
	wait := agent.Backoff{Min: time.Second, Max: time.Minute}
	known := false
	for {
		began := time.Now()
		err := s.follow(ctx, func(servers []string) { known = true; tell(servers) })
		if ctx.Err() != nil {
			return
		}
		s.note(err)
		if err != nil && !known {
			tell([]string{s.First})
		}
		if err == nil || time.Since(began) > time.Minute {
			wait.Reset() // a watch ends after some minutes as a rule
		}
		if !agent.Wait(ctx, max(wait.Next(), 100*time.Millisecond)) {
			return
		}
	}
}

// note keeps why the servers are not known, and logs it when that begins.
func (s *Servers) note(err error) {
	s.mu.Lock()
	first := err != nil && s.why == nil
	s.why = err
	s.mu.Unlock()
	if first {
		s.Log.Warn("the servers of k3s are not known", agent.KeyErr, err)
	}
}

// Trouble is why the servers are not known; nil when they are.
func (s *Servers) Trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// Now is the servers at this moment, one at least.
func (s *Servers) Now(ctx context.Context) ([]string, error) {
	servers, _, err := s.list(ctx)
	return servers, err
}

func (s *Servers) list(ctx context.Context) (servers []string, version string, err error) {
	list, err := s.Slices.List(ctx, only)
	if err != nil {
		return nil, "", fmt.Errorf("list endpoints of the service kubernetes: %w", err)
	}
	var now *discoveryv1.EndpointSlice
	if len(list.Items) > 0 {
		now = &list.Items[0]
	}
	return s.addresses(now), list.ResourceVersion, nil
}

func (s *Servers) follow(ctx context.Context, tell func([]string)) error {
	servers, version, err := s.list(ctx)
	if err != nil {
		return err
	}
	tell(servers)
	s.note(nil)
	from := only
	from.ResourceVersion = version
	w, err := s.Slices.Watch(ctx, from)
	if err != nil {
		return fmt.Errorf("watch endpoints of the service kubernetes: %w", err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, more := <-w.ResultChan():
			switch slice, _ := event.Object.(*discoveryv1.EndpointSlice); {
			case !more:
				return nil
			case event.Type == watch.Error:
				return fmt.Errorf("watch endpoints of the service kubernetes: %w", apierrors.FromObject(event.Object))
			case event.Type == watch.Deleted:
				tell(s.addresses(nil))
			case slice != nil:
				tell(s.addresses(slice))
			}
		}
	}
}

// addresses are those of a slice, or the one that we speak to when it has none.
func (s *Servers) addresses(slice *discoveryv1.EndpointSlice) (out []string) {
	if slice == nil {
		return []string{s.First}
	}
	port := 6443
	for _, p := range slice.Ports {
		if p.Port != nil && (p.Name == nil || *p.Name == "https" || len(slice.Ports) == 1) {
			port = int(*p.Port)
		}
	}
	for _, e := range slice.Endpoints {
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		for _, address := range e.Addresses {
			out = append(out, net.JoinHostPort(address, strconv.Itoa(port)))
		}
	}
	if len(out) == 0 {
		return []string{s.First}
	}
	return out
}
