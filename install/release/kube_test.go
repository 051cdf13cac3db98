package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/agent/release"
)

// checkKube: the manifest names all three, each is of this version, and helm takes the chart.
func checkKube(t *testing.T, out string) {
	m, err := release.Decode(read(t, out, release.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	chartFile, baseFile, k3sFile := "skerry-cluster-"+testVersion+".tgz", "skerry-kube_"+testVersion+".tar.gz", "skerry-cluster_"+testVersion+".helmchart.yaml"
	named := 0
	for _, f := range m.Files {
		if f.Kind == release.KindKube && f.Program == "skerry-cluster" && strings.Contains(chartFile+" "+baseFile+" "+k3sFile, f.Name) {
			named++
		}
	}
	if named != 3 {
		t.Errorf("the manifest names %d of chart, base and manifest for k3s; wanted 3", named)
	}
	chart, base := unzip(t, read(t, out, chartFile)), unzip(t, read(t, out, baseFile))
	for _, want := range []string{"\nversion: " + testVersion + "\n", "\nappVersion: " + testVersion + "\n"} {
		if !bytes.Contains(chart["skerry-cluster/Chart.yaml"], []byte(want)) {
			t.Errorf("Chart.yaml of the chart lacks %q:\n%s", want, chart["skerry-cluster/Chart.yaml"])
		}
	}
	if !bytes.Contains(base["skerry-kube/kustomization.yaml"], []byte("newTag: "+testVersion+"\n")) {
		t.Errorf("the base takes another image:\n%s", base["skerry-kube/kustomization.yaml"])
	}
	rights, err := os.ReadFile(filepath.Join("..", "kube", "rbac.yaml"))
	if err != nil || !bytes.Equal(chart["skerry-cluster/files/rbac.yaml"], rights) || !bytes.Equal(base["skerry-kube/rbac.yaml"], rights) {
		t.Errorf("the rights are others than those of rbac.yaml (%v)", err)
	}
	if len(base["skerry-kube/agent/statefulset.yaml"]) == 0 || len(base["skerry-kube/crd/mlsysops.eu_mlsysopsnodes.yaml"]) == 0 {
		t.Error("the base lacks the agent, or the CRDs")
	}
	content := regexp.MustCompile(`(?m)^  chartContent: "([^"]*)"$`).FindSubmatch(read(t, out, k3sFile))
	if content == nil {
		t.Fatalf("the manifest for k3s holds no chart:\n%s", read(t, out, k3sFile))
	}
	if raw, err := base64.StdEncoding.DecodeString(string(content[1])); err != nil || !bytes.Equal(raw, read(t, out, chartFile)) {
		t.Errorf("the manifest for k3s holds another chart than the release (%v)", err)
	}
	helmTakes(t, filepath.Join(out, testVersion, chartFile))
}

// helmTakes renders the chart as it was packed, when helm was built.
func helmTakes(t *testing.T, chart string) {
	helm, err := filepath.Abs(filepath.Join("..", "..", "bin", "helm"))
	if err == nil {
		_, err = os.Stat(helm)
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v; run: make bin/helm", err)
		}
		t.Skipf("%v; run: make bin/helm", err)
	}
	cmd := exec.CommandContext(t.Context(), helm, "template", "skerry-cluster", chart)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	said, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(said, []byte("image: ghcr.io/skerry-edge/skerry-cluster:"+testVersion+"\n")) {
		t.Errorf("helm template: %v\n%.2000s", err, said)
	}
}

func unzip(t *testing.T, raw []byte) map[string][]byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return untar(t, z)
}
