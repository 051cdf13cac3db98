package agent

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Set by the linker: -X github.com/skerry-edge/skerry/agent.version=… (Makefile). They are read only.
var (
	version   = "0.0.0-dev"
	commit    = "unknown"
	buildUnix = "1790000000" // seconds; a build that does not set it still has a floor near its release
	// releaseKeys are the public keys that releases are signed with, by commas: several while one takes the place of another.
	releaseKeys = ""
)

// Version is the semantic version of this build.
func Version() string { return version }

// BuildTime is when this build was made: the first floor of a device's clock.
func BuildTime() time.Time {
	sec, err := strconv.ParseInt(buildUnix, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(sec, 0).UTC()
}

// Build tells this build from any other.
func Build() string { return version + " " + commit + " " + buildUnix }

// ReleaseKeys are the public keys, as package release writes them, that this build trusts releases by.
func ReleaseKeys() []string {
	return strings.FieldsFunc(releaseKeys, func(r rune) bool { return r == ',' })
}

// VersionLine describes this build in one line for `NAME version`.
func VersionLine(name string) string {
	return fmt.Sprintf("%s %s (commit %s, %s %s/%s)", name, version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
