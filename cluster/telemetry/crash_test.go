package telemetry

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// The environment variables that make this test binary the process to be killed, or one that has a small disk.
const (
	envCrash = "SKERRY_TEST_CRASH_DIR"
	envDisk  = "SKERRY_TEST_SMALL_DISK"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envCrash); dir != "" {
		if err := crashChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// crashChild stores for ever and prints, for each of four nodes, how many batches were taken. Each batch has one row in
// order and, every fifth time, one that is days late.
func crashChild(dir string) error {
	s, err := New(Config{Dir: dir, Cluster: "site"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 5)
	go func() { ended <- s.Run(ctx) }()
	from, err := strconv.ParseInt(os.Getenv("SKERRY_TEST_FROM"), 10, 64)
	if err != nil {
		return err
	}
	for n := range 4 {
		go func() {
			for i := int64(0); ; i++ {
				b := batch("m", time.UnixMilli(from+i), 0, float64(i))
				if i%5 == 4 {
					b.Rows = append(b.Rows, api.Row{OffsetMillis: -2 * 24 * 3600 * 1000, Values: []float64{float64(i)}})
				}
				if _, err := s.Append(ctx, fmt.Sprintf("n%d", n), b); err != nil {
					ended <- err
					return
				}
				fmt.Printf("%d %d\n", n, i+1)
			}
		}()
	}
	return <-ended
}

// crash runs a child on dir, kills it when it has taken enough, and returns how many batches each node knows to be
// taken.
func crash(t *testing.T, dir string, from time.Time, enough int) (taken [4]int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^$")
	cmd.Env = append(os.Environ(), envCrash+"="+dir, fmt.Sprintf("SKERRY_TEST_FROM=%d", from.UnixMilli()))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for sum := 0; lines.Scan(); sum++ {
		var n, i int
		if _, err := fmt.Sscan(lines.Text(), &n, &i); err != nil {
			t.Fatalf("child says %q", lines.Text())
		}
		taken[n] = i
		if sum == enough {
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		} // and go on reading what it had printed before it died
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("child ended with %v: %s", err, complaint.String())
	}
	return taken
}

func checkTaken(t *testing.T, s *Store, from time.Time, taken [4]int) {
	t.Helper()
	for n, want := range taken {
		at := from.Add(59 * time.Minute)
		got := scalar(t, s, fmt.Sprintf(`count_over_time(m{node="n%d"}[59m1s])`, n), at)
		if int(got) < want {
			t.Errorf("n%d: %v samples are there; %d were taken", n, got, want)
		}
		if want < 5 {
			continue
		}
		late := scalar(t, s, fmt.Sprintf(`count_over_time(m{node="n%d"}[59m1s])`, n), at.AddDate(0, 0, -2))
		if int(late) < want/5 {
			t.Errorf("n%d: %v late samples are there; %d were taken", n, late, want/5)
		}
	}
}

func TestKillDuringIngestLosesNothingThatWasTaken(t *testing.T) {
	for _, enough := range []int{200, 3000, 12000} {
		t.Run(strconv.Itoa(enough), func(t *testing.T) {
			dir := t.TempDir()
			begin := time.Now().Add(-3 * time.Hour).Truncate(time.Second)
			var taken [3][4]int
			for i := range taken { // what one life leaves behind must not harm what the next one stores
				taken[i] = crash(t, dir, begin.Add(time.Duration(i)*time.Hour), enough)
			}
			for range 2 {
				s := start(t, Config{Dir: dir})
				for i := range taken {
					checkTaken(t, s.Store, begin.Add(time.Duration(i)*time.Hour), taken[i])
				}
				if err := s.stop(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
