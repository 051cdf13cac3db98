package image

import (
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Platform is what a machine runs, or an image is for.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

// String writes linux/arm/v7.
func (p Platform) String() string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// Here is the platform of this machine. Of 32-bit ARM the kernel is asked which version it is: the program may be built
// for an older one.
func Here() Platform {
	p := Platform{OS: "linux", Architecture: runtime.GOARCH}
	if p.Architecture == "arm" {
		var u unix.Utsname
		p.Variant = "v7" // of a kernel for 64 bits too
		if err := unix.Uname(&u); err == nil {
			p.Variant = armVariant(unix.ByteSliceToString(u.Machine[:]))
		}
	}
	return p
}

// armVariant reads the machine as the kernel names it: armv6l, armv7l, aarch64.
func armVariant(machine string) string {
	if v, ok := strings.CutPrefix(machine, "armv"); ok && v != "" && v[0] >= '5' && v[0] <= '7' {
		return "v" + v[:1]
	}
	return "v7"
}

// wasm is whether an image holds WebAssembly, which any machine may run.
func (p Platform) wasm() bool { return p.Architecture == "wasm" || p.Architecture == "wasm32" }

// fit ranks an image of platform p on the machine m: 0 does not run, more is better. A baseline goes before anything, as
// nothing tells here what a processor can do beyond it; on 32-bit ARM the newest version that is not too new.
func (p Platform) fit(m Platform) int {
	switch {
	case p.wasm():
		return 1
	case p.OS != m.OS || p.Architecture != m.Architecture:
		return 0
	}
	switch p.Architecture {
	case "arm":
		want := p.Variant
		if want == "" {
			want = "v7" // what Docker means by linux/arm
		}
		if len(want) != 2 || want > m.Variant || want < "v5" {
			return 0
		}
		return 2 + int(want[1]-'0')
	case "arm64":
		if p.Variant != "" && p.Variant != "v8" {
			return 0
		}
	case "amd64":
		if p.Variant != "" && p.Variant != "v1" {
			return 0
		}
	}
	return 2
}

// choose picks the best manifest of an index; ok is false when none runs on m.
func choose(list []descriptor, m Platform) (best descriptor, ok bool) {
	rank := 0
	for _, d := range list {
		if d.Platform == nil {
			continue
		}
		if fit := d.Platform.fit(m); fit > rank {
			best, rank = d, fit
		}
	}
	if rank == 0 && len(list) == 1 && list[0].Platform == nil { // an index around one image that says nothing of itself
		return list[0], true
	}
	return best, rank > 0
}
