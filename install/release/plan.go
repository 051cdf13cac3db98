package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/agent/release"
)

const module = "github.com/skerry-edge/skerry"

// target is what programs are built for. The environment is complete, so that nobody's own gets in.
type target struct {
	name     string // GOOS-GOARCH and the version of ARM: how files are named
	arch     string // GOARCH
	env      []string
	variant  string // of the processor, as images name it
	packages string // how nfpm calls it; empty: no packages
}

// targets are those of docs/architecture.md. The first is that of most servers.
var targets = []target{
	{name: "linux-amd64", arch: "amd64", env: []string{"GOAMD64=v1"}, packages: "amd64"},
	{name: "linux-arm64", arch: "arm64", env: []string{"GOARM64=v8.0"}, variant: "v8", packages: "arm64"},
	{name: "linux-armv7", arch: "arm", env: []string{"GOARM=7"}, variant: "v7", packages: "arm7"},
	{name: "linux-armv6", arch: "arm", env: []string{"GOARM=6"}, variant: "v6", packages: "arm6"},
	{name: "linux-riscv64", arch: "riscv64", env: []string{"GORISCV64=rva20u64"}, packages: "riscv64"},
	{name: "linux-mipsle", arch: "mipsle", env: []string{"GOMIPS=softfloat"}, packages: "mipsle"},
	{name: "linux-386", arch: "386", env: []string{"GO386=sse2"}, packages: "386"},
}

// servers are the targets of what is not for tiny devices.
var servers = []string{"linux-amd64", "linux-arm64"}

// variant is a build of a program with other parts. The empty name is that of a program which has but one.
type variant struct {
	name string
	tags string
}

// program is one that is shipped.
type program struct {
	name     string
	about    string // for packages, one line
	variants []variant
	targets  []string // empty: all
	gcflags  []string
	ldflags  string
	stamped  bool // with version, commit and time
	image    bool
	service  bool // has service files
}

// lite comes first: what a later variant does not add to it is not built.
var programs = []program{
	{name: "skerry-edge", about: "Skerry's node agent: telemetry, commands and workloads for far-edge devices",
		variants: []variant{{"lite", "nethttpomithttp2,lite"}, {"full", "nethttpomithttp2,grpcnotrace"}},
		gcflags:  []string{"-gcflags=all=-l", "-gcflags=crypto/internal/fips140/edwards25519/...="}, ldflags: " -funcalign=4",
		stamped: true, image: true, service: true},
	{name: "skerry-cluster", about: "Skerry's cluster agent: enrolment, MQTT broker, registry, telemetry and REST for a site",
		variants: []variant{{}}, targets: servers, stamped: true, image: true, service: true},
	{name: "skerry", about: "Skerry's command line", variants: []variant{{}}, targets: servers, stamped: true},
}

// verifier is built without version and commit: as long as its sources stay, so does its hash.
var verifier = program{name: "skerry-verify", variants: []variant{{}}}

func (s settings) validate() error {
	var errs []error
	v, err := release.ParseVersion(s.version)
	if err != nil {
		errs = append(errs, fmt.Errorf("-version: %w", err))
	} else if v.String() != s.version {
		errs = append(errs, fmt.Errorf("-version %q; wanted %q, without a v", s.version, v))
	}
	if s.built.Year() < 2000 {
		errs = append(errs, fmt.Errorf("-stamp %d; wanted the time of the commit in seconds since 1970", s.built.Unix()))
	}
	if err := release.ValidName(s.channel); err != nil {
		errs = append(errs, fmt.Errorf("-channel: %w", err))
	}
	if strings.ContainsAny(s.url, "' \t\n") || s.url != "" && !strings.HasPrefix(s.url, "http://") && !strings.HasPrefix(s.url, "https://") {
		errs = append(errs, fmt.Errorf("-url %q; wanted http:// or https://", s.url))
	}
	for _, name := range s.only {
		if !slices.ContainsFunc(targets, func(t target) bool { return t.name == name }) {
			errs = append(errs, fmt.Errorf("-targets: %q is none", name))
		}
	}
	return errors.Join(errs...)
}

// targetsOf are those that a program is built for in this run.
func (s settings) targetsOf(p program) []target {
	return slices.DeleteFunc(slices.Clone(targets), func(t target) bool {
		return len(p.targets) > 0 && !slices.Contains(p.targets, t.name) || len(s.only) > 0 && !slices.Contains(s.only, t.name)
	})
}

// fileName is how a file of the release is called: skerry-edge_1.2.3_linux-arm64_lite.tar.gz.
func (s settings) fileName(program, target, variant, ending string) string {
	name := program + "_" + s.version
	for _, part := range []string{target, variant} {
		if part != "" {
			name += "_" + part
		}
	}
	return name + ending
}
