//go:build !lite

package containerd

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skerry-edge/skerry/edge/workload"
)

// TestWhatWasPutInPlaceOfASourceMeanwhileIsSeen has a container, played by this process, that sees of a source what lies there now.
func TestWhatWasPutInPlaceOfASourceMeanwhileIsSeen(t *testing.T) {
	volume := t.TempDir()
	source := filepath.Join(volume, "sub")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	m := &made{spec: &specs.Spec{}}
	defer m.close()
	if err := m.mount(workload.Mount{Source: source, Within: volume, Target: source}); err != nil {
		t.Fatal(err)
	}
	if got := m.spec.Mounts; len(got) != 1 || got[0].Source != source {
		t.Errorf("mounts %+v; wanted %s", got, source)
	}
	if err := m.verify(os.Getpid()); err != nil {
		t.Errorf("what was found is there: %v", err)
	}
	if err := os.Rename(source, source+".was"); err != nil {
		t.Fatal(err)
	}
	if err := m.verify(os.Getpid()); err == nil {
		t.Error("nothing is there, and nobody says so")
	}
	if err := os.Symlink("/etc", source); err != nil {
		t.Fatal(err)
	}
	if err := m.verify(os.Getpid()); err == nil {
		t.Error("a link leads out of the volume, and nobody says so")
	}
}

func TestASourceThatLeavesItsVolumeIsNotMounted(t *testing.T) {
	volume := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(volume, "link")); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{filepath.Join(volume, "link"), filepath.Dir(volume), "/etc"} {
		m := &made{spec: &specs.Spec{}}
		if err := m.mount(workload.Mount{Source: source, Within: volume, Target: "/data"}); err == nil {
			t.Errorf("%s is mounted: %+v", source, m.spec.Mounts)
		}
		m.close()
	}
}
