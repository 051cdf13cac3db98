package fault

import (
	"bytes"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/edge/outbox"
)

// inOutbox runs use on an outbox of the product in dir, and ends it in order, so that all it has is in outbox.db.
func inOutbox(t *testing.T, dir string, use func(o *outbox.Outbox)) {
	t.Helper()
	o, err := outbox.Open(outbox.Config{Dir: dir, RuntimeDir: filepath.Join(dir, "run"), Epoch: 1, Boot: "b", Clock: agent.NewClock(time.Time{}, agent.ClockSource{}),
		Sender: nowhere{}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	use(o)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
}

// fullOutbox is an outbox.db with so many scrapes, written in several parts.
func fullOutbox(t *testing.T, scrapes int) []byte {
	t.Helper()
	dir := t.TempDir()
	for from := 1; from <= scrapes; from += scrapes / 5 {
		inOutbox(t, dir, func(o *outbox.Outbox) {
			for n := from; n < from+scrapes/5; n++ {
				if err := o.PutBatch(tickBatch(n)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	raw, err := os.ReadFile(filepath.Join(dir, outboxFile))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// onPages are the scrapes on each page; the library has to find as many.
func onPages(t *testing.T, raw []byte) map[int][]int {
	t.Helper()
	on := map[int][]int{}
	all := ticks{}
	for _, v := range (&bolt{raw: raw, page: 4096}).bucket("tele") {
		got, _ := hotHolds(v.value)
		for n := range got {
			all[n] = true
			leaf := v.pages[len(v.pages)-1]
			on[leaf] = append(on[leaf], n)
		}
	}
	path := filepath.Join(t.TempDir(), outboxFile)
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if lib, err := dbHolds(path); err != nil || !maps.Equal(lib, all) {
		t.Fatalf("bbolt finds %d scrapes, %v; this finds %d", len(lib), err, len(all))
	}
	return on
}

func TestDamageToAnOutboxExcusesWhatIsOnItsPageAlone(t *testing.T) {
	const scrapes = 200
	raw := fullOutbox(t, scrapes)
	on := onPages(t, raw)
	leaves := slices.Sorted(maps.Keys(on))
	if len(leaves) < 4 {
		t.Fatalf("all lies on pages %v", leaves)
	}
	flip := func(at int) []byte {
		out := bytes.Clone(raw)
		out[at] ^= 1
		return out
	}
	meta, root, ok := (&bolt{raw: raw, page: 4096}).newest()
	if !ok {
		t.Fatal("no page says where the root is")
	}
	for what, c := range map[string]struct {
		after []byte
		want  int
	}{
		"untouched":                  {raw, 0},
		"a page that nobody reads":   {flip(4096*unreadPage(raw, on) + 100), 0},
		"a page of records":          {flip(4096*leaves[1] + 2000), len(on[leaves[1]])},
		"the header of such a page":  {flip(4096*leaves[1] + 8), len(on[leaves[1]])},
		"the root":                   {flip(4096*int(root) + 10), scrapes},
		"the page that says where":   {flip(4096*meta + 32), scrapes},
		"the other such page":        {flip(4096*(1-meta) + 32), 0},
		"nothing is left but a page": {raw[:4096], scrapes},
	} {
		if got := spoilt(raw, c.after); len(got) != c.want {
			t.Errorf("%s: %d scrapes may be lost; wanted %d", what, len(got), c.want)
		}
	}
}

// unreadPage is a page that no record and no header needs.
func unreadPage(raw []byte, on map[int][]int) int {
	used := map[int]bool{0: true, 1: true}
	for _, v := range (&bolt{raw: raw, page: 4096}).bucket("tele") {
		for _, p := range v.pages {
			used[p] = true
		}
	}
	for p := len(raw)/4096 - 1; p > 0; p-- {
		if !used[p] {
			return p
		}
	}
	return 0
}

// TestAnOutboxLosesNoMoreThanItsDamageExcuses has the product mend its file after damage anywhere in it.
func TestAnOutboxLosesNoMoreThanItsDamageExcuses(t *testing.T) {
	raw := fullOutbox(t, 200)
	all := ticks{}
	for _, list := range onPages(t, raw) {
		for _, n := range list {
			all[n] = true
		}
	}
	dice := rand.New(rand.NewPCG(8, 1))
	lost := 0
	for round := range 120 {
		after := bytes.Clone(raw)
		if end := written(raw); round%4 == 0 {
			after = after[:end-dice.IntN(end/10)]
		} else {
			after[dice.IntN(end)] ^= 1 << dice.IntN(8)
		}
		dir := t.TempDir()
		path := filepath.Join(dir, outboxFile)
		if err := os.WriteFile(path, after, 0o600); err != nil {
			t.Fatal(err)
		}
		inOutbox(t, dir, func(*outbox.Outbox) {})
		left, err := dbHolds(path)
		if err != nil {
			t.Fatal(err)
		}
		excused := spoilt(raw, after)
		for n := range all {
			if !left[n] {
				lost++
				if !excused[n] {
					t.Errorf("round %d: scrape %d is lost, and %d others that are excused", round, n, len(excused))
					break
				}
			}
		}
	}
	if lost == 0 {
		t.Error("no damage lost anything")
	}
}

// TestAFullDiskWhileAnOutboxIsMendedExcusesAllOfIt takes an end of the trouble before the damage, and a beginning after the mending, for none.
func TestAFullDiskWhileAnOutboxIsMendedExcusesAllOfIt(t *testing.T) {
	at := time.Now().Add(-time.Hour)
	after := func(seconds int) time.Time { return at.Add(time.Duration(seconds) * time.Second) }
	for what, c := range map[string]struct {
		trouble span
		want    int
	}{
		"none":               {span{after(-90), after(-60)}, 0},
		"ended before":       {span{after(-20), after(-1)}, 0},
		"during":             {span{after(-20), after(5)}, 2},
		"lasts":              {span{after(1), time.Time{}}, 2},
		"begins with mended": {span{after(60), after(90)}, 0},
	} {
		p := &Process{births: []time.Time{after(-100), after(2), after(50)}, spans: []span{c.trouble}}
		r := &Rig{tiers: map[string]*Process{tierEdge1: p}, harms: map[string][]*harm{tierEdge1: {{at: at, held: ticks{4: true, 7: true}}}}}
		if got := r.unmended(tierEdge1); len(got) != c.want {
			t.Errorf("%s: %v; wanted %d", what, got, c.want)
		}
	}
}

// TestDamageThatWasNotMendedIsComparedWithTheSoundFile has two faults meet one file before anybody could mend it.
func TestDamageThatWasNotMendedIsComparedWithTheSoundFile(t *testing.T) {
	raw := fullOutbox(t, 200)
	on := onPages(t, raw)
	leaves := slices.Sorted(maps.Keys(on))
	first, second := bytes.Clone(raw), []byte(nil)
	first[4096*leaves[0]+2000] ^= 1
	second = bytes.Clone(first)
	second[4096*leaves[2]+2000] ^= 1
	r := &Rig{tiers: map[string]*Process{}, wounds: map[wound]time.Time{}, took: map[string]ticks{}, harms: map[string][]*harm{}}
	r.hurt(tierEdge1, outboxFile, &contents{raw: raw}, &contents{raw: first})
	if got, want := len(r.took[tierEdge1]), len(on[leaves[0]]); got != want {
		t.Errorf("the first excuses %d; wanted %d", got, want)
	}
	r.hurt(tierEdge1, outboxFile, &contents{raw: first}, &contents{raw: second})
	if got, want := len(r.took[tierEdge1]), len(spoilt(raw, second)); got != want || want < len(on[leaves[0]])+len(on[leaves[2]]) {
		t.Errorf("both excuse %d; wanted %d", got, want)
	}
}
