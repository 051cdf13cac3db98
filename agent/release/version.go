package release

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// SemVer is a semantic version (semver.org 2.0.0). Build is kept and not compared.
type SemVer struct {
	Major, Minor, Patch uint64
	Pre, Build          string // without the - and the +
}

// ParseVersion reads a semantic version; a v before it is passed over.
func ParseVersion(s string) (SemVer, error) {
	wrong := func() (SemVer, error) {
		return SemVer{}, fmt.Errorf("version %.80q; wanted MAJOR.MINOR.PATCH, perhaps with -prerelease and +build", s)
	}
	if len(s) > MaxNameBytes {
		return wrong()
	}
	rest, build, hasBuild := strings.Cut(strings.TrimPrefix(s, "v"), "+")
	rest, pre, hasPre := strings.Cut(rest, "-")
	parts := strings.Split(rest, ".")
	if len(parts) != 3 || hasBuild && !identifiers(build, false) || hasPre && !identifiers(pre, true) {
		return wrong()
	}
	v := SemVer{Pre: pre, Build: build}
	for i, to := range []*uint64{&v.Major, &v.Minor, &v.Patch} {
		n, err := strconv.ParseUint(parts[i], 10, 64)
		if err != nil || strconv.FormatUint(n, 10) != parts[i] {
			return wrong()
		}
		*to = n
	}
	return v, nil
}

// identifiers reports whether s is dot-separated identifiers; strict ones that are numbers have no zero in front.
func identifiers(s string, strict bool) bool {
	for id := range strings.SplitSeq(s, ".") {
		if id == "" || strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
			return false
		}
		if strict && isNumber(id) && len(id) > 1 && id[0] == '0' {
			return false
		}
	}
	return true
}

func isNumber(s string) bool { return strings.Trim(s, "0123456789") == "" }

// String is the version without a v.
func (v SemVer) String() string {
	s := fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch)
	if v.Pre != "" {
		s += "-" + v.Pre
	}
	if v.Build != "" {
		s += "+" + v.Build
	}
	return s
}

// Compare is negative when v is older than w, 0 when neither is (their builds may differ), positive when v is newer.
func (v SemVer) Compare(w SemVer) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Patch, w.Patch), comparePre(v.Pre, w.Pre))
}

// comparePre orders pre-releases as clause 11 says: none is the newest, numbers come before words, fewer before more.
func comparePre(a, b string) int {
	if a == "" || b == "" {
		return cmp.Compare(len(b), len(a)) // at most one is not empty, and that one is older
	}
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		if c := compareIdentifier(as[i], bs[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(as), len(bs))
}

func compareIdentifier(a, b string) int {
	switch an, bn := isNumber(a), isNumber(b); {
	case an && bn: // without zeros in front the longer number is the larger
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	case an:
		return -1
	case bn:
		return 1
	}
	return strings.Compare(a, b)
}

// Newer returns nil when a device that runs version from may go to version to without being asked twice: forwards only. The same version
// is refused too, as there is nothing to do.
func Newer(from, to string) error {
	f, err := ParseVersion(from)
	if err != nil {
		return fmt.Errorf("running: %w", err)
	}
	t, err := ParseVersion(to)
	if err != nil {
		return fmt.Errorf("offered: %w", err)
	}
	if c := t.Compare(f); c <= 0 {
		return fmt.Errorf("version %s is %s %s, which runs; wanted a newer one", t, map[bool]string{true: "older than", false: "the same as"}[c < 0], f)
	}
	return nil
}
