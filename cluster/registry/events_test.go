package registry

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

func nodeEvent(epoch, seq, prev uint64) *api.Event {
	return &api.Event{Epoch: epoch, Seq: seq, Prev: prev, At: 1, Class: api.ClassEvent, Kind: "probe.failed", Message: fmt.Sprint(epoch, ".", seq)}
}

func TestNodeEventIsStoredOnceAndAcknowledgedAlongItsChain(t *testing.T) {
	db := openDB(t, false)
	l := newRegistry(t, Config{DB: db}).Events()
	for i, tc := range []struct {
		epoch, seq, prev uint64
		mark             uint64
	}{
		{1, 1, 0, 1}, {1, 2, 1, 2}, {1, 2, 1, 2}, {1, 1, 0, 2}, // again
		{1, 4, 3, 2},                             // 3 went astray: not stored, not acknowledged
		{1, 3, 2, 3}, {1, 4, 3, 4}, {1, 9, 4, 9}, // 5 to 8 were dropped on the node
		{2, 1, 0, 1}, {1, 10, 9, 10}, {2, 2, 1, 2},
	} {
		mark, err := l.AppendNode("n1", nodeEvent(tc.epoch, tc.seq, tc.prev))
		if err != nil || mark != tc.mark {
			t.Errorf("step %d, event %d.%d: mark %d, %v; wanted %d", i, tc.epoch, tc.seq, mark, err, tc.mark)
		}
	}
	l = newRegistry(t, Config{DB: db}).Events()
	if mark, err := l.AppendNode("n1", nodeEvent(1, 10, 9)); err != nil || mark != 10 {
		t.Errorf("after a restart: mark %d, %v", mark, err)
	}
	list, err := l.List(EventFilter{Node: "n1"})
	if err != nil || len(list) != 8 {
		t.Fatalf("%d events, %v; wanted each of 8 once", len(list), err)
	}
	if list[0].Message != "2 . 2" && list[0].Message != "2.2" {
		t.Errorf("newest is %q", list[0].Message)
	}
	if _, err := l.AppendNode("n1", &api.Event{}); err == nil {
		t.Error("an invalid event was taken")
	}
}

func TestEventLogIsBoundedByCountAndAge(t *testing.T) {
	c := &clock{now: zero}
	db := openDB(t, false)
	r := newRegistry(t, Config{DB: db, Now: c.Now, KeepEvents: 100, KeepFor: 24 * time.Hour})
	l := r.Events()
	w := l.Watch(t.Context())
	for i := range 250 {
		must(t, l.Append(api.EventRecord{Node: "n1", At: api.At(c.Now()), Class: api.ClassAlarm, Kind: "k", Message: fmt.Sprint(i)}))
		c.add(time.Second)
	}
	list, err := l.List(EventFilter{Limit: 1000})
	if err != nil || len(list) != 100 || list[0].Message != "249" || list[0].ID != 250 || list[99].Message != "150" {
		t.Fatalf("%d events, first %+v, %v", len(list), list[0], err)
	}
	if st := r.Stats(); st.Events != 100 || st.EventsDropped != 150 {
		t.Errorf("%d stored, %d dropped; wanted 100, 150", st.Events, st.EventsDropped)
	}
	if first := <-w.Changes(); first.Item.ID != 1 || first.Item.Message != "0" {
		t.Errorf("the watch began with %+v", first.Item)
	}
	for _, tc := range []struct {
		f    EventFilter
		want int
	}{
		{EventFilter{Since: api.At(at(245 * time.Second))}, 5}, {EventFilter{After: 248}, 2}, {EventFilter{Node: "n2"}, 0},
		{EventFilter{Class: api.ClassEvent}, 0}, {EventFilter{Class: api.ClassAlarm, Limit: 7}, 7}, {EventFilter{Kind: "k"}, 100},
	} {
		if got, err := l.List(tc.f); err != nil || len(got) != tc.want {
			t.Errorf("%+v lists %d, %v; wanted %d", tc.f, len(got), err, tc.want)
		}
	}
	if n := newRegistry(t, Config{DB: db, Now: c.Now}).Stats().Events; n != 100 {
		t.Errorf("%d events counted after a restart; wanted 100", n)
	}
	c.add(25 * time.Hour)
	must(t, r.sweep(c.Now()))
	if list, err := l.List(EventFilter{}); err != nil || len(list) != 0 {
		t.Errorf("%d events after their age, %v", len(list), err)
	}
}

func TestManyAppendsShareCommits(t *testing.T) {
	r := newRegistry(t, Config{DB: openDB(t, true)})
	before := r.Stats()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if err := r.Events().Append(api.EventRecord{Kind: fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	after := r.Stats()
	if after.Events != 200 || after.Commits-before.Commits > 100 {
		t.Errorf("%d events in %d commits", after.Events, after.Commits-before.Commits)
	}
}

func TestMarksOfManySessionsStayBounded(t *testing.T) {
	m := marks{}
	for epoch := range uint64(1000) {
		m.set(epoch+1, 1)
	}
	if len(m) != maxMarkEpochs || m[1000] != 1 || m[1000-maxMarkEpochs] != 0 {
		t.Errorf("%d sessions remembered", len(m))
	}
}

func FuzzSplitEvent(f *testing.F) {
	good, err := encodeEvent(&api.EventRecord{ID: 1, Node: "n1", Kind: "k"}, zero)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 255})
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, node, body, err := splitEvent(raw)
		if err == nil && 9+len(node)+len(body) != len(raw) {
			t.Errorf("%d bytes split into %q and %d", len(raw), node, len(body))
		}
	})
}
