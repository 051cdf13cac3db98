package edge

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// smapsOfPIE is what a kernel says of a position-independent skerry-edge: the loader has relocated in the second mapping
// before it made it read-only.
const smapsOfPIE = `555555554000-555555a00000 r-xp 00000000 fe:00 131 /usr/bin/skerry-edge
Size:               4784 kB
Rss:                2752 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
555555c00000-555555d06000 r--p 004ac000 fe:00 131 /usr/bin/skerry-edge
Size:               1048 kB
Rss:                1048 kB
Anonymous:          1048 kB
VmFlags: rd mr mw me ac
555555d06000-555555d60000 rw-p 005b2000 fe:00 131 /usr/bin/skerry-edge
Size:                360 kB
Anonymous:             0 kB
555555e00000-555556200000 r--p 00600000 fe:00 131 /usr/bin/skerry-edge
Size:               4096 kB
Anonymous:             0 kB
7ffff7c00000-7ffff7c28000 r--p 00000000 fe:00 77 /usr/lib/libc.so.6
Size:                160 kB
Anonymous:             0 kB
7ffff7ff7000-7ffff7ffb000 r--p 00000000 00:00 0 [vvar]
Anonymous:             0 kB
`

func TestOnlyPagesThatNobodyWroteAreGivenBack(t *testing.T) {
	got, err := untouched(strings.NewReader(smapsOfPIE), "/usr/bin/skerry-edge")
	if want := []mapping{{"555555554000-555555a00000", true}, {"555555e00000-555556200000", false}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; wanted %v", got, err, want)
	}
}

func TestHeapGoesEachMinuteAndCodeEachHour(t *testing.T) {
	var heap, code []time.Duration // after the start
	for n := range 241 {
		h, c := due(n)
		at := time.Duration(n+1) * trimEvery
		if h && at <= 3*time.Minute {
			heap = append(heap, at)
		}
		if c {
			code = append(code, at)
		}
	}
	if want := []time.Duration{30 * time.Second, 90 * time.Second, 150 * time.Second}; !slices.Equal(heap, want) {
		t.Errorf("heap goes after %v; wanted %v", heap, want)
	}
	if want := []time.Duration{30 * time.Second, time.Hour + 30*time.Second, 2*time.Hour + 30*time.Second}; !slices.Equal(code, want) {
		t.Errorf("code goes after %v; wanted %v", code, want)
	}
}

func TestTheProgramComesBackAfterItWasGivenBack(t *testing.T) {
	own, err := ownProgram()
	if err != nil || len(own.code) == 0 || len(own.tables) == 0 {
		t.Fatalf("%d mappings of code, %d of tables, %v; wanted some of both", len(own.code), len(own.tables), err)
	}
	sum := byte(0)
	for _, m := range own.tables { // all of them are read, however little has happened before
		for at := 0; at < len(m); at += os.Getpagesize() {
			sum += m[at]
		}
	}
	t.Logf("the tables begin their pages with %d in sum", sum) // so that they are read
	before := residentKiB(t, own.tables)
	for range 3 {
		if err := errors.Join(forget(own.code), forget(own.tables)); err != nil {
			t.Fatal(err)
		}
	}
	if after := residentKiB(t, own.tables); after >= before {
		t.Errorf("%d KiB of tables are mapped after they were given back, %d before", after, before)
	}
}

// residentKiB tells what smaps says of mappings.
func residentKiB(t *testing.T, mappings [][]byte) (sum int) {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mappings {
		_, entry, ok := strings.Cut("\n"+string(raw), fmt.Sprintf("\n%08x-", uintptr(unsafe.Pointer(&m[0]))))
		_, rss, _ := strings.Cut(entry, "\nRss:")
		var n int
		if _, err := fmt.Sscan(rss, &n); err != nil || !ok {
			t.Fatalf("no mapping at %p in smaps: %v", m, err)
		}
		sum += n
	}
	return sum
}
