package access

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
)

func openAudit(t *testing.T, bounds Bounds) (*Audit, *clock, *bbolt.DB) {
	t.Helper()
	db, c := openDB(t, filepath.Join(t.TempDir(), "store.db")), newClock()
	a, err := OpenAudit(db, bounds, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return a, c, db
}

func numbered(t *testing.T, a *Audit, n int) {
	t.Helper()
	for i := range n {
		e := api.AuditEntry{By: "ann", Action: "command.create", Object: fmt.Sprint(i), Result: "ok"}
		if _, err := a.Append(e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheAuditLogKeepsTheNewest(t *testing.T) {
	a, _, _ := openAudit(t, Bounds{Entries: 10})
	numbered(t, a, 25)
	list, err := a.List(AuditQuery{})
	if err != nil || len(list) != 10 || list[0].ID != 25 || list[9].ID != 16 {
		t.Fatalf("List has %d entries (%v): %+v; wanted 25 down to 16", len(list), err, list)
	}
	if list, err = a.List(AuditQuery{Limit: 3}); err != nil || len(list) != 3 || list[2].ID != 23 {
		t.Errorf("List with limit 3 = %+v, %v", list, err)
	}
}

func TestASmallerBoundIsReachedLittleByLittle(t *testing.T) {
	a, _, db := openAudit(t, Bounds{Entries: 1000})
	numbered(t, a, 300)
	smaller, err := OpenAudit(db, Bounds{Entries: 5}, a.now)
	if err != nil {
		t.Fatal(err)
	}
	numbered(t, smaller, 1)
	if list, _ := smaller.List(AuditQuery{}); len(list) != 301-trimStep {
		t.Errorf("after one append %d entries; wanted %d", len(list), 301-trimStep)
	}
	numbered(t, smaller, 6)
	if list, _ := smaller.List(AuditQuery{}); len(list) != 5 {
		t.Errorf("in the end %d entries; wanted 5", len(list))
	}
}

func TestOldEntriesGoByAge(t *testing.T) {
	a, c, _ := openAudit(t, Bounds{Age: 24 * time.Hour})
	numbered(t, a, 3)
	c.add(20 * time.Hour)
	since := c.now()
	numbered(t, a, 2)
	if list, err := a.List(AuditQuery{Since: since}); err != nil || len(list) != 2 {
		t.Errorf("List since = %+v, %v; wanted 2", list, err)
	}
	c.add(5 * time.Hour)
	numbered(t, a, 1)
	if list, err := a.List(AuditQuery{}); err != nil || len(list) != 3 {
		t.Errorf("List = %+v, %v; wanted the 3 of the last day", list, err)
	}
	c.add(240 * time.Hour)
	numbered(t, a, 1)
	if list, err := a.List(AuditQuery{}); err != nil || len(list) != 1 {
		t.Errorf("List = %+v, %v; wanted the one just written", list, err)
	}
}

func TestAnEntryIsStoredWithWhatItTellsOfOrNotAtAll(t *testing.T) {
	a, _, db := openAudit(t, Bounds{})
	broken := errors.New("the write it tells of failed")
	err := db.Update(func(tx *bbolt.Tx) error {
		if _, err := a.AppendTx(tx, api.AuditEntry{By: "ann"}); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if list, err := a.List(AuditQuery{}); err != nil || len(list) != 0 {
		t.Errorf("List = %+v, %v; wanted none", list, err)
	}
}

func TestFieldsOfAnEntryAreBounded(t *testing.T) {
	a, _, _ := openAudit(t, Bounds{})
	e, err := a.Append(api.AuditEntry{By: strings.Repeat("é", 1000), Object: strings.Repeat("o", 1<<20), Result: "ok\xff"})
	if err != nil {
		t.Fatal(err)
	}
	if len(e.By) > api.MaxLabelBytes || len(e.Object) != api.MaxReasonBytes || e.Result != "ok" {
		t.Errorf("by %d, object %d bytes, result %q", len(e.By), len(e.Object), e.Result)
	}
	if list, err := a.List(AuditQuery{}); err != nil || len(list) != 1 || list[0] != e {
		t.Errorf("List = %+v, %v; wanted what Append returned", list, err)
	}
}

func TestConcurrentWritersGetDistinctNumbers(t *testing.T) {
	a, _, _ := openAudit(t, Bounds{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				if _, err := a.Append(api.AuditEntry{By: "ann"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	list, err := a.List(AuditQuery{})
	if err != nil || len(list) != 40 || list[0].ID != 40 {
		t.Errorf("List has %d entries, first %+v, %v; wanted 40", len(list), list[0], err)
	}
}

func TestWhatIsRefusedDoesNotPushOutWhatWasDone(t *testing.T) {
	a, _, _ := openAudit(t, Bounds{Entries: 4, Refused: 3, Strange: 2})
	say := func(by string, role api.Role, result string) {
		if _, err := a.Append(api.AuditEntry{By: by, Role: role, Result: result}); err != nil {
			t.Fatal(err)
		}
	}
	say("ann", api.RoleAdmin, "ok")
	for range 50 {
		say("mallory", api.RoleViewer, "not permitted")
	}
	for range 50 {
		say("node:n1", "", "not permitted")
	}
	say("bob", api.RoleOperator, "ok")
	list, err := a.List(AuditQuery{})
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, e := range list {
		got += fmt.Sprintf("%d %s, ", e.ID, e.By)
	}
	if want := "102 bob, 101 node:n1, 100 node:n1, 51 mallory, 50 mallory, 49 mallory, 1 ann, "; got != want {
		t.Errorf("%s; wanted %s", got, want)
	}
}

func TestTheLogIsWalkedPageByPage(t *testing.T) {
	a, _, db := openAudit(t, Bounds{Entries: 60, Refused: 20, Strange: 10})
	for i := range 200 {
		e := api.AuditEntry{By: "ann", Role: []api.Role{"", api.RoleViewer}[i%2], Result: map[bool]string{true: "no", false: "ok"}[i%3 == 0]}
		if _, err := a.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	again, err := OpenAudit(db, Bounds{Entries: 60, Refused: 20, Strange: 10}, nil)
	if err != nil {
		t.Fatal(err)
	}
	all, err := again.List(AuditQuery{})
	if err != nil || len(all) != 90 {
		t.Fatalf("%d entries, %v", len(all), err)
	}
	for _, limit := range []int{1, 7, 89, 90, 91} {
		var walked []api.AuditEntry
		for before := uint64(0); ; {
			page, err := again.List(AuditQuery{Before: before, Limit: limit})
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			walked, before = append(walked, page...), page[len(page)-1].ID
		}
		if !slices.Equal(walked, all) {
			t.Errorf("%d at a time: %d entries; wanted the same %d", limit, len(walked), len(all))
		}
	}
}

func TestALogOfBeforeThereWereThreeGoesOn(t *testing.T) {
	_, _, db := openAudit(t, Bounds{})
	err := db.Update(func(tx *bbolt.Tx) error { // as an older version left it
		b := tx.Bucket([]byte(bucketAudit))
		return errors.Join(b.SetSequence(7), b.Put(key(7), []byte(`{"id":7,"by":"ann","result":"no"}`)))
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := OpenAudit(db, Bounds{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := a.Append(api.AuditEntry{By: "bob", Result: "no"}); err != nil || e.ID != 8 {
		t.Errorf("%+v, %v; wanted id 8", e, err)
	}
	if list, err := a.List(AuditQuery{}); err != nil || len(list) != 2 || list[0].By != "bob" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestTheAuditLogFillsItsPages(t *testing.T) {
	a, _, db := openAudit(t, Bounds{})
	err := db.Update(func(tx *bbolt.Tx) error {
		for i := range 3000 {
			e := api.AuditEntry{By: "ann", Role: "operator", Via: "mqtt", Action: "command.create", Object: fmt.Sprint("ping n", i), Result: ResultOK}
			if _, err := a.AppendTx(tx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	numbered(t, a, 500) // one by one, as they come
	err = db.View(func(tx *bbolt.Tx) error {
		if s := tx.Bucket([]byte(bucketAudit)).Stats(); s.LeafInuse*10 < s.LeafAlloc*9 {
			t.Errorf("%d of %d bytes are in use; wanted nine of ten", s.LeafInuse, s.LeafAlloc)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
