package edge

import (
	"slices"
	"strings"
	"testing"
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
	if want := []string{"555555554000-555555a00000", "555555e00000-555556200000"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; wanted %v", got, err, want)
	}
}

func TestCodeComesBackAfterItWasGivenBack(t *testing.T) {
	for range 3 {
		if err := dropCode(); err != nil {
			t.Fatal(err)
		}
	}
}
