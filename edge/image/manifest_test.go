package image

import (
	"errors"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/edge/workload"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestABadManifestIsRefusedByWhatIsWrong(t *testing.T) {
	for raw, says := range map[string]string{
		`{`:                               "manifest",
		`{"schemaVersion":1}`:             "schema version 1; wanted 2",
		`{"schemaVersion":2}`:             "neither a config nor manifests",
		`{"schemaVersion":2,"config":{}}`: `wanted sha256:`,
		`{"schemaVersion":2,"config":{"digest":"sha256:../../etc"}}`:                                                 "wanted sha256:",
		`{"schemaVersion":2,"config":{"digest":"` + someDigest + `"},"layers":[{"digest":"x"}]}`:                     "wanted sha256:",
		`{"schemaVersion":2,"config":{"digest":"` + someDigest + `","size":-1}}`:                                     "-1 bytes",
		`{"schemaVersion":2,"config":{"digest":"` + someDigest + `"},"manifests":[{"digest":"` + someDigest + `"}]}`: "an index and an image at once",
		`{"schemaVersion":2,"manifests":[` + strings.Repeat(`{},`, maxManifests) + `{}]}`:                            "257 images",
	} {
		if _, err := parseManifest([]byte(raw)); !errors.Is(err, workload.ErrBadImage) || !strings.Contains(err.Error(), says) {
			t.Errorf("%.80s: %v; wanted a bad image and %q", raw, err, says)
		}
	}
	for raw, says := range map[string]string{
		`[]`: "config", `{}`: "0 layers; the manifest has 1", `{"rootfs":{"diff_ids":["x"]}}`: `diff id "x"`,
	} {
		if _, err := parseConfig([]byte(raw), 1); !errors.Is(err, workload.ErrBadImage) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; wanted a bad image and %q", raw, err, says)
		}
	}
}

func TestTheImageForThisMachineIsChosen(t *testing.T) {
	all := []descriptor{{Digest: "attestation", Platform: &Platform{"unknown", "unknown", ""}}, {Digest: "windows", Platform: &Platform{"windows", "amd64", ""}},
		{Digest: "amd64v3", Platform: &Platform{"linux", "amd64", "v3"}}, {Digest: "amd64", Platform: &Platform{"linux", "amd64", ""}},
		{Digest: "v5", Platform: &Platform{"linux", "arm", "v5"}}, {Digest: "v7", Platform: &Platform{"linux", "arm", "v7"}},
		{Digest: "v6", Platform: &Platform{"linux", "arm", "v6"}}, {Digest: "arm64", Platform: &Platform{"linux", "arm64", "v8"}},
		{Digest: "arm64v9", Platform: &Platform{"linux", "arm64", "v9"}}, {Digest: "mipsle", Platform: &Platform{"linux", "mipsle", ""}}, {Digest: "bare"}}
	for _, c := range []struct {
		machine Platform
		want    string
	}{
		{Platform{"linux", "amd64", ""}, "amd64"}, {Platform{"linux", "arm", "v7"}, "v7"}, {Platform{"linux", "arm", "v6"}, "v6"},
		{Platform{"linux", "arm", "v5"}, "v5"}, {Platform{"linux", "arm64", ""}, "arm64"}, {Platform{"linux", "mipsle", ""}, "mipsle"},
		{Platform{"linux", "riscv64", ""}, ""}, {Platform{"linux", "386", ""}, ""},
	} {
		if d, ok := choose(all, c.machine); ok != (c.want != "") || d.Digest != c.want {
			t.Errorf("%s: %q, %v; wanted %q", c.machine, d.Digest, ok, c.want)
		}
	}
	wasm := descriptor{Digest: "wasm", Platform: &Platform{"wasip1", "wasm", ""}}
	if d, ok := choose([]descriptor{wasm, all[3]}, Platform{"linux", "riscv64", ""}); !ok || d.Digest != "wasm" {
		t.Errorf("%v, %v; wanted WebAssembly where nothing else runs", d, ok)
	}
	if d, ok := choose([]descriptor{wasm, all[3]}, Platform{"linux", "amd64", ""}); !ok || d.Digest != "amd64" {
		t.Errorf("%v, %v; wanted the machine's own before WebAssembly", d, ok)
	}
	if d, ok := choose([]descriptor{{Digest: "only"}}, Platform{"linux", "amd64", ""}); !ok || d.Digest != "only" {
		t.Errorf("%v, %v; wanted the only one", d, ok)
	}
}

func TestTheVersionOf32BitARMIsTheKernels(t *testing.T) {
	for machine, want := range map[string]string{"armv5tejl": "v5", "armv6l": "v6", "armv7l": "v7", "armv8l": "v7", "aarch64": "v7"} {
		if got := armVariant(machine); got != want {
			t.Errorf("%s: %s; wanted %s", machine, got, want)
		}
	}
}

// FuzzManifest parses arbitrary bytes: whatever passes names digests only, and within bounds.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"` + someDigest + `","size":3},"layers":[{"digest":"` + someDigest + `"}]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"` + someDigest + `","platform":{"os":"linux","architecture":"arm"}}]}`))
	f.Add([]byte(`{"architecture":"arm","rootfs":{"diff_ids":["` + someDigest + `"]},"config":{"Env":["A=b"]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if m, err := parseManifest(raw); err == nil {
			if len(m.Layers) > maxLayers || m.Config == nil && len(m.Manifests) == 0 {
				t.Errorf("%+v", m)
			}
			for _, d := range m.Layers {
				if len(d.hex()) != 64 || d.Size < 0 {
					t.Errorf("%+v", d)
				}
			}
			choose(m.Manifests, Here())
			m.module()
		}
		if c, err := parseConfig(raw, 1); err == nil && len(c.RootFS.DiffIDs) != 1 {
			t.Errorf("%+v", c)
		}
	})
}
