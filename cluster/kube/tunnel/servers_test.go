package tunnel

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
)

func slice(port int32, addresses ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", Namespace: "default"},
		Ports: []discoveryv1.EndpointPort{{Name: new("https"), Port: &port}}}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

// told are the lists of servers that follow one another.
func told(t *testing.T, servers *Servers) func(want ...string) {
	t.Helper()
	lists := make(chan []string)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		servers.Follow(ctx, func(s []string) {
			select {
			case lists <- s:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return func(want ...string) {
		t.Helper()
		for {
			select {
			case got := <-lists:
				if slices.Equal(got, want) {
					return
				}
				t.Errorf("servers %v; wanted %v", got, want)
			case <-time.After(time.Minute):
				t.Fatalf("no servers are told; wanted %v", want)
			}
		}
	}
}

// endpoints is the API of slices, with the one there is.
type endpoints struct {
	discoveryclient.EndpointSliceInterface
	list  discoveryv1.EndpointSliceList
	err   error
	watch *watch.FakeWatcher
}

func (e *endpoints) List(_ context.Context, o metav1.ListOptions) (*discoveryv1.EndpointSliceList, error) {
	if o.FieldSelector != "metadata.name=kubernetes" {
		return nil, errors.New("list of all slices")
	}
	return &e.list, e.err
}

func (e *endpoints) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return e.watch, nil
}

func TestServersAreTheEndpointsOfTheServiceKubernetes(t *testing.T) {
	api := &endpoints{watch: watch.NewFake()}
	want := told(t, &Servers{Slices: api, First: "10.43.0.1:443", Log: slog.New(slog.DiscardHandler)})
	want("10.43.0.1:443") // nobody has written any: the one that we speak to
	api.watch.Add(slice(6443, "10.0.0.1"))
	want("10.0.0.1:6443")
	two := slice(6443, "10.0.0.1", "fd00::2", "10.0.0.3")
	two.Endpoints[2].Conditions.Ready = new(false)
	api.watch.Modify(two)
	want("10.0.0.1:6443", "[fd00::2]:6443")
	api.watch.Delete(two)
	want("10.43.0.1:443")
}

func TestWithoutTheRightThereIsTheServerThatWeSpeakTo(t *testing.T) {
	refused := errors.New("forbidden")
	s := &Servers{Slices: &endpoints{err: refused}, First: "10.43.0.1:443", Log: slog.New(slog.DiscardHandler)}
	told(t, s)("10.43.0.1:443")
	if err := s.Trouble(); !errors.Is(err, refused) {
		t.Errorf("trouble %v; wanted %v", err, refused)
	}
}
