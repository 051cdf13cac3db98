// Package arch holds the house rules of docs/architecture.md as tests: who may import whom, which calls are forbidden,
// and what the edge links.
package arch

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/edge-deps.txt anew")

const module = "github.com/skerry-edge/skerry"

// goPackage is what the rules need of `go list -json`.
type goPackage struct {
	ImportPath string
	Name       string
	Doc        string
	Dir        string
	GoFiles    []string
	Imports    []string
	Standard   bool
	Module     *struct{ Path string }
}

func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json"}, args...)...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	var pkgs []goPackage
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for dec.More() {
		var p goPackage
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	return pkgs
}

// arrows lists, per part of the tree, the parts it may import besides itself. api stands on the standard library, but for
// its Kubernetes types.
var arrows = map[string][]string{
	"api":       {},
	"agent":     {"api"},
	"configs":   {"api", "agent"}, // of agent only agent/release, which knows how keys are written
	"mqtt":      {"api", "agent"},
	"edge":      {"api", "agent", "configs", "mqtt"},
	"cluster":   {"api", "agent", "configs", "mqtt", "install"},
	"continuum": {"api", "agent", "configs", "mqtt", "install"},
	"install":   {},
	"cli":       {"api", "agent", "configs", "mqtt"},
	"cmd":       {"agent", "configs", "edge", "cluster", "continuum", "cli"},
	"docs":      {"api", "agent", "configs", "mqtt", "cluster", "cli", "edge"},
	"test":      {"api", "agent", "configs", "mqtt", "cluster", "continuum", "cli", "edge"}, // and nothing imports test
}

// kubernetesTypes may import apimachinery, and nobody but adapters and tests may import them, so that the other nouns, and
// the edge with them, stay free of it.
var kubernetesTypes = []string{module + "/api/v1", module + "/api/edge/v1alpha1"}

// kubernetesAdapters are the packages, with what is below them, that may touch Kubernetes. cluster/bridge touches nothing, but its
// nouns are those of Kubernetes.
var kubernetesAdapters = []string{module + "/cluster/kube", module + "/cluster/bridge", module + "/continuum/karmada"}

// within reports whether a package is one of roots or below one.
func within(importPath string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return importPath == root || strings.HasPrefix(importPath, root+"/")
	})
}

func part(importPath string) string {
	rest := strings.TrimPrefix(importPath, module+"/")
	first, _, _ := strings.Cut(rest, "/")
	return first
}

func TestEachPartImportsOnlyWhatItMay(t *testing.T) {
	for _, p := range list(t, "./...") {
		from := part(p.ImportPath)
		allowed, known := arrows[from]
		if !known {
			t.Errorf("%s: no arrow says what it may import; add one to test/arch", p.ImportPath)
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, module+"/") {
				if from == "api" && strings.Contains(imp, ".") && !apimachineryForTypes(p.ImportPath, imp) {
					t.Errorf("%s imports %s; api stands on the standard library alone, %v also on apimachinery", p.ImportPath, imp, kubernetesTypes)
				}
				continue
			}
			if to := part(imp); to != from && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s; %s may import only %v", p.ImportPath, imp, from, allowed)
			}
		}
	}
}

// TestWhatIsShippedHoldsNoTestCode lets _test files have their helpers there, and nothing else.
func TestWhatIsShippedHoldsNoTestCode(t *testing.T) {
	for from, allowed := range arrows {
		if slices.Contains(allowed, "test") {
			t.Errorf("%s may import test/; wanted no such arrow", from)
		}
	}
	for _, p := range list(t, "./...") {
		for _, imp := range p.Imports { // _test files may
			if part(imp) == "test" && strings.HasPrefix(imp, module+"/") && part(p.ImportPath) != "test" {
				t.Errorf("%s imports %s", p.ImportPath, imp)
			}
		}
	}
}

func apimachineryForTypes(importPath, imp string) bool {
	return slices.Contains(kubernetesTypes, importPath) && strings.HasPrefix(imp, "k8s.io/apimachinery/")
}

func TestOnlyAdaptersTouchKubernetes(t *testing.T) {
	seen := 0
	for _, p := range list(t, "./...") {
		for _, imp := range p.Imports {
			if slices.Contains(kubernetesTypes, imp) && !within(p.ImportPath, kubernetesAdapters) {
				t.Errorf("%s imports %s; only %v may", p.ImportPath, imp, kubernetesAdapters)
			}
			if !strings.HasPrefix(imp, "k8s.io/") && !strings.HasPrefix(imp, "sigs.k8s.io/") {
				continue
			}
			seen++
			if !within(p.ImportPath, kubernetesAdapters) && !slices.Contains(kubernetesTypes, p.ImportPath) {
				t.Errorf("%s imports %s; only %v and %v may", p.ImportPath, imp, kubernetesAdapters, kubernetesTypes)
			}
		}
	}
	if seen == 0 {
		t.Error("nobody imports Kubernetes; the rule is broken")
	}
}

// TestTheSecondBrokerIsOfTheTestsAlone keeps NATS in the module of test/nats, which builds the server that tests start.
func TestTheSecondBrokerIsOfTheTestsAlone(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil || strings.Contains(string(raw), "nats-io") {
		t.Errorf("go.mod requires NATS (%v); wanted it in test/nats/go.mod alone", err)
	}
	own, err := os.ReadFile(filepath.Join("..", "nats", "go.mod"))
	if err != nil || !strings.Contains(string(own), "tool github.com/nats-io/nats-server/v2") {
		t.Errorf("test/nats/go.mod does not name the server (%v)", err)
	}
}

// TestWhatMakesReleasesIsAModuleOfItsOwn keeps the packager's libraries out of what is shipped.
func TestWhatMakesReleasesIsAModuleOfItsOwn(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil || strings.Contains(string(raw), "goreleaser") {
		t.Errorf("go.mod requires nfpm (%v); wanted it in install/release/go.mod alone", err)
	}
	own, err := os.ReadFile(filepath.Join("..", "..", "install", "release", "go.mod"))
	if err != nil || !strings.Contains(string(own), "github.com/goreleaser/nfpm/v2") {
		t.Errorf("install/release/go.mod does not name nfpm (%v)", err)
	}
}

// TestHelmIsOfTheTestsAlone keeps Helm in the module that builds its program: the chart is files, and nothing here renders it.
func TestHelmIsOfTheTestsAlone(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil || strings.Contains(string(raw), "helm.sh/") {
		t.Errorf("go.mod requires Helm (%v); wanted it in test/helm/go.mod alone", err)
	}
	own, err := os.ReadFile(filepath.Join("..", "helm", "go.mod"))
	if err != nil || !strings.Contains(string(own), "tool helm.sh/helm/v4/cmd/helm") {
		t.Errorf("test/helm/go.mod does not name the program (%v)", err)
	}
}

// TestTheControlPlaneIsOfTheTestsAlone keeps Kubernetes itself in the module that builds its programs.
func TestTheControlPlaneIsOfTheTestsAlone(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil || strings.Contains(string(raw), "k8s.io/kubernetes") || strings.Contains(string(raw), "k3s-io/kine") {
		t.Errorf("go.mod requires Kubernetes or kine (%v); wanted them in test/kube/parts/go.mod alone", err)
	}
	own, err := os.ReadFile(filepath.Join("..", "kube", "parts", "go.mod"))
	if err != nil || !strings.Contains(string(own), "k8s.io/kubernetes/cmd/kube-apiserver") {
		t.Errorf("test/kube/parts/go.mod does not name the API server (%v)", err)
	}
}

// forbiddenOnEdge explains itself.
var forbiddenOnEdge = map[string]string{
	"k8s.io/":                         "the edge has no Kubernetes client",
	"sigs.k8s.io/":                    "the edge has no Kubernetes client",
	"github.com/prometheus/":          "the edge reports over MQTT only",
	"github.com/mochi-mqtt/":          "the broker belongs to the cluster agent",
	"github.com/danielgtaylor/":       "the edge serves no REST",
	"net/http/pprof":                  "profiling is for the larger tiers",
	"github.com/spf13/cobra":          "the edge has a handful of subcommands",
	module + "/cluster":               "tiers never import each other",
	"google.golang.org/":              "the edge speaks MQTT and HTTPS",
	"github.com/google/go-containerr": "images come through the cluster agent",
}

func TestTheEdgeStaysTiny(t *testing.T) { edgeLinks(t, "edge-deps.txt", "lite", forbiddenOnEdge) }

// TestTheFullEdgeLinksWhatItNeeds lets full have gRPC, which containerd speaks, and neither its client nor what that brings.
func TestTheFullEdgeLinksWhatItNeeds(t *testing.T) {
	forbidden := maps.Clone(forbiddenOnEdge)
	delete(forbidden, "google.golang.org/")
	forbidden["github.com/containerd/containerd/v2"] = "7 MiB; its types for the wire are enough"
	forbidden["github.com/opencontainers/runc"] = "containerd runs it"
	edgeLinks(t, "edge-full-deps.txt", "grpcnotrace", forbidden)
}

// edgeLinks compares what skerry-edge links with a list, and with what it may not.
func edgeLinks(t *testing.T, name, tags string, forbidden map[string]string) {
	t.Helper()
	var lines []string
	for _, p := range list(t, "-deps", "-tags", tags, "./cmd/skerry-edge") {
		for prefix, why := range forbidden {
			if strings.HasPrefix(p.ImportPath, prefix) {
				t.Errorf("skerry-edge reaches %s: %s", p.ImportPath, why)
			}
		}
		if !p.Standard && !strings.HasPrefix(p.ImportPath, module) {
			lines = append(lines, p.ImportPath)
		}
	}
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("skerry-edge links other packages than %s says. If that is intended, run: go test ./test/arch -update\ngot:\n%s", file, got)
	}
}
