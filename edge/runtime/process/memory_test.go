package process

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/edge/runtime/launch"
	"github.com/skerry-edge/skerry/edge/workload"
)

// BenchmarkSupervisorMemory tells what one supervisor of ten holds while its container runs, in KiB. SKERRY_EDGE names the program that is
// shipped; without it, the test binary is measured.
func BenchmarkSupervisorMemory(b *testing.B) {
	if err := Missing(); err != nil {
		b.Skip(err)
	}
	dir := b.TempDir()
	images, err := benchImage(dir)
	if err != nil {
		b.Fatal(err)
	}
	cfg := testConfig(dir, images)
	if program := os.Getenv("SKERRY_EDGE"); program != "" {
		cfg.Shim = []string{program, "shim"}
	}
	r, err := New(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	var pids []int
	for i := range 10 {
		c := workload.Container{ID: workload.ContainerID("w", "a", i), Workload: "w", Name: "a", Image: "sha256:test", Args: []string{"serve"},
			Log: dir + "/log" + strconv.Itoa(i)}
		if err := r.Start(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	<-time.After(2 * time.Second)
	all, err := r.List(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, o := range all {
		pids = append(pids, o.Pid)
	}
	for _, name := range []string{"Rss", "Pss", "Private_Dirty", "Private_Clean"} {
		sum := 0
		for _, pid := range pids {
			sum += rollup(b, pid, name)
		}
		b.ReportMetric(float64(sum)/float64(len(pids)), name+"-KiB")
	}
	for _, o := range all {
		if err := r.Stop(b.Context(), o.ID, 0); err != nil {
			b.Error(err)
		}
		if err := r.Remove(b.Context(), o.ID); err != nil {
			b.Error(err)
		}
	}
	if err := r.Close(); err != nil {
		b.Error(err)
	}
}

func benchImage(dir string) (*testImages, error) {
	file, err := payload()
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	image := dir + "/image"
	if err := os.Mkdir(image, 0o755); err != nil {
		return nil, err
	}
	return &testImages{lower: []string{image}, config: launch.ImageConfig{Entrypoint: []string{"/payload"}}}, os.WriteFile(image+"/payload", raw, 0o755)
}

func rollup(b *testing.B, pid int, name string) int {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("no %s", name)
	return 0
}
