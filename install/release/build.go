package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// binary is a program that was built.
type binary struct {
	program program
	variant variant
	target  target
	path    string
}

// environment is what the go command gets: the caller's, without what changes what comes out.
func environment(t target) []string {
	var env []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		switch {
		case name == "GOFLAGS", name == "GOEXPERIMENT", name == "GOOS", name == "CGO_ENABLED", name == "GOWORK", name == "GOFIPS140",
			strings.HasPrefix(name, "GOAMD"), strings.HasPrefix(name, "GOARM"), strings.HasPrefix(name, "GO386"), name == "GOARCH",
			strings.HasPrefix(name, "GOMIPS"), strings.HasPrefix(name, "GORISCV"):
		default:
			env = append(env, e)
		}
	}
	return append(env, append([]string{"CGO_ENABLED=0", "GOWORK=off", "GOOS=linux", "GOARCH=" + t.arch}, t.env...)...)
}

// arguments are those of `go build` and `go list` alike.
func (p program) arguments(v variant) []string {
	args := []string{"-trimpath", "-buildvcs=false", "-mod=readonly"}
	if v.tags != "" {
		args = append(args, "-tags", v.tags)
	}
	return append(args, p.gcflags...)
}

func (m *maker) build(ctx context.Context, p program, v variant, t target) (binary, error) {
	b := binary{p, v, t, filepath.Join(m.work, p.name+"_"+t.name+"_"+v.name)}
	ldflags := "-s -w" + p.ldflags
	if p.stamped {
		ldflags = fmt.Sprintf("-s -w -X %[1]s.version=%[2]s -X %[1]s.commit=%[3]s -X %[1]s.buildUnix=%[4]d -X %[1]s.releaseKeys=%[5]s%[6]s", module+"/agent", m.version, m.commit, m.built.Unix(),
			strings.Join(m.trusted(), ","), p.ldflags)
	}
	args := append([]string{"build"}, p.arguments(v)...)
	if _, err := m.goCommand(ctx, t, append(args, "-ldflags", ldflags, "-o", b.path, "./cmd/"+p.name)...); err != nil {
		return b, fmt.Errorf("build %s %s for %s: %w", p.name, v.name, t.name, err)
	}
	return b, nil
}

// trusted are the keys that programs of this release take another by.
func (m *maker) trusted() []string {
	keys := []string{m.key.public.String()}
	for _, k := range m.trust {
		keys = append(keys, k.String())
	}
	return keys
}

func (m *maker) goCommand(ctx context.Context, t target, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = m.source, environment(t)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, errs.Bytes())
	}
	return out, nil
}

// adds reports whether a variant is made of other files than the program's first one.
func (m *maker) adds(ctx context.Context, p program, v variant, t target) (bool, error) {
	if v == p.variants[0] {
		return true, nil
	}
	var lists [2]string
	for i, of := range []variant{p.variants[0], v} {
		args := append([]string{"list", "-deps", "-f", "{{.ImportPath}} {{.GoFiles}} {{.SFiles}} {{.EmbedFiles}}"}, p.arguments(of)...)
		out, err := m.goCommand(ctx, t, append(args, "./cmd/"+p.name)...)
		if err != nil {
			return false, err
		}
		lists[i] = string(out)
	}
	return lists[0] != lists[1], nil
}
