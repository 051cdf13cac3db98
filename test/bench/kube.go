package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// kube times pods from kubectl to Running on devices, with the control plane of the tests. Where that was not built, or
// there is no root for containers, it says so and measures nothing, unless it was asked for by name.
func kube(ctx context.Context, o options) ([]row, error) {
	_, err := os.Stat(filepath.Join(o.bin, "kube", "kubectl"))
	switch {
	case err != nil:
		err = fmt.Errorf("%w; build it first: make bin/kube/kubectl", err)
	case os.Geteuid() != 0:
		err = fmt.Errorf("user %d: wanted root, for containers", os.Geteuid())
	}
	if err != nil && len(o.only) == 0 {
		fmt.Fprintln(o.say, "kube is left out:", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pods := "60x"
	if o.short {
		pods = "10x"
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "FromApply", "-benchtime", pods, "./test/kube")
	cmd.Stderr = o.say
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", cmd, err, out[max(0, len(out)-1000):])
	}
	p50, err := metric(out, "ms-p50-whole")
	if err != nil {
		return nil, err
	}
	p95, err := metric(out, "ms-p95-whole")
	if err != nil {
		return nil, err
	}
	r := atMost("kubectl apply to Running, p95", p95, 1000, "ms")
	r.Note = fmt.Sprintf("%s pods on ten devices, the image present", pods)
	return []row{fact("kubectl apply to Running, p50", p50, "ms"), r}, nil
}

// metric finds one in what a Go benchmark printed.
func metric(out []byte, unit string) (float64, error) {
	m := regexp.MustCompile(`(\S+) ` + regexp.QuoteMeta(unit) + `\b`).FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("no figure in %s: %s", unit, out[max(0, len(out)-1000):])
	}
	return strconv.ParseFloat(string(m[1]), 64)
}
