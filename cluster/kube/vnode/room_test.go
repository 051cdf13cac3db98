package vnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-edge/skerry/cluster/bridge"
)

// counted is an API server that has so many nodes of k3s, the first of them its server.
type counted struct {
	client.Reader
	mu           sync.Mutex // while somebody watches
	nodes, asked int
	fails        error
}

func (c *counted) has(nodes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = nodes
}

func (c *counted) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	list, ok := into.(*corev1.NodeList)
	if !ok {
		return errOther
	}
	for i := range c.nodes {
		list.Items = append(list.Items, corev1.Node{Spec: corev1.NodeSpec{PodCIDRs: []string{fmt.Sprintf("10.42.%d.0/24", i)}}})
	}
	list.Items[0].ObjectMeta = metav1.ObjectMeta{Labels: map[string]string{"node-role.kubernetes.io/control-plane": "true"},
		Annotations: map[string]string{"k3s.io/node-args": `["server","--cluster-cidr","10.42.0.0/19"]`}}
	return c.fails
}

func TestADeviceThatThereIsNoRoomForWaitsAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &counted{nodes: 22}
		var changed []string
		r := &room{reader: server, ours: func(n *corev1.Node) bool { return n.Labels[bridge.ManagedBy] != "" }, now: time.Now, changed: func(id string) { changed = append(changed, id) }}
		faults := &Faults{log: slog.New(slog.DiscardHandler), room: r}
		admit := func(id string, want bool) {
			t.Helper()
			why, err := r.admit(t.Context(), id)
			if err != nil || (why == "") != want || faults.NoRoom(id) != why {
				t.Errorf("%s: %q, %v, and it says %q", id, why, err, faults.NoRoom(id))
			}
		}
		admit("a", true)
		admit("b", true)
		admit("c", false) // 22 were counted, two were made since, and of 32 the last 8 are for machines
		if server.asked != 1 {
			t.Errorf("%d counts for three devices within a second", server.asked)
		}
		if told := strings.Join(faults.Trouble(), "\n"); !strings.Contains(told, "1 devices have no node, such as c: the pod network 10.42.0.0/19 has room for 32") {
			t.Errorf("the doctor says %q", told)
		}
		time.Sleep(roomAgain)
		server.nodes = 20
		admit("c", true)
		if told := faults.Trouble(); len(told) != 0 || !slices.Equal(changed, []string{"c", "c"}) {
			t.Errorf("%v, told of %v", told, changed)
		}
		time.Sleep(roomAgain)
		server.fails = errors.New("away")
		if why, err := r.admit(t.Context(), "d"); err == nil || why != "" {
			t.Errorf("a count that failed: %q, %v", why, err)
		}
	})
}

func TestTheDoctorKnowsOfANetworkThatIsUsedUpWhereNoDeviceWantsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &counted{nodes: 3}
		faults := &Faults{room: &room{reader: server, ours: func(*corev1.Node) bool { return false }, now: time.Now}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- faults.room.watch(ctx) }()
		synctest.Wait()
		if told := faults.Trouble(); len(told) != 0 {
			t.Errorf("%v", told)
		}
		server.has(30)
		time.Sleep(2 * roomEvery)
		if told := strings.Join(faults.Trouble(), "\n"); !strings.Contains(told, "room for 32 nodes, and 30 are there") || !strings.Contains(told, cureRoom) {
			t.Errorf("%q", told)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// hanging is an API server that answers nothing.
type hanging struct{ client.Reader }

func (hanging) List(ctx context.Context, _ client.ObjectList, _ ...client.ListOption) error {
	<-ctx.Done()
	return ctx.Err()
}

// The status and the doctor ask for what is known, and are not to hang with an API server.
func TestWhatIsKnownOfTheRoomIsToldWhileTheAPIServerHangs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := &room{reader: hanging{}, now: time.Now}
	done := make(chan error, 1)
	go func() { done <- r.watch(ctx) }()
	for r.asking.TryLock() { // until it counts
		r.asking.Unlock()
		time.Sleep(time.Millisecond)
	}
	told := make(chan []string, 1)
	go func() { r.note("a", "no room"); told <- append(r.trouble(), r.why("a")) }()
	select {
	case lines := <-told:
		if len(lines) != 2 || lines[1] != "no room" {
			t.Errorf("%q", lines)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for the count")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
