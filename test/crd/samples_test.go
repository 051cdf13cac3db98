package crd

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// TestEveryDescriptionIsAcceptedAndKept converts a site's description files as the framework does: the wrapper goes, the name
// becomes the object's. Nothing of them may be dropped.
func TestEveryDescriptionIsAcceptedAndKept(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "samples", "descriptions.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ours, seen := servers(t), map[string]bool{}
	for _, doc := range strings.Split(string(text), "\n---\n") {
		var wrapped map[string]map[string]any
		if err := yaml.UnmarshalStrict([]byte(doc), &wrapped); err != nil {
			t.Fatal(err)
		}
		for kind, fields := range wrapped {
			seen[kind] = true
			fields["metadata"] = map[string]any{"name": fields["name"], "namespace": "mlsysops"}
			delete(fields, "name")
			keeps(t, ours[kind], kind, fields)
		}
	}
	if len(seen) != len(describedKinds) {
		t.Errorf("described %v; wanted every one of %v", seen, describedKinds)
	}
}

// TestEveryFieldAndWordIsAcceptedAndKept fills every field of the framework's schema, in as many objects as the longest list
// of words needs.
func TestEveryFieldAndWordIsAcceptedAndKept(t *testing.T) {
	ours := servers(t)
	for _, kind := range describedKinds {
		tree := readTree(t, kind)
		objects := mostWords(tree)
		for i := range objects {
			fields := full(tree, i).(map[string]any)
			fields["metadata"] = map[string]any{"name": "sample", "namespace": "mlsysops"}
			keeps(t, ours[kind], kind, fields)
		}
		t.Logf("%-18s %2d objects with every field", kind, objects)
	}
}

// keeps holds that an object is created and that what is kept is what was given.
func keeps(t *testing.T, s *server, kind string, fields map[string]any) {
	t.Helper()
	raw, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	obj, pruned, errs := s.created(t, raw)
	if len(pruned) > 0 || len(errs) > 0 {
		t.Errorf("%s: %s\npruned %v, errors %v", kind, raw, pruned, errs)
	}
	checkTyped(t, kind, obj)
}

// full returns a value with every field, and of each enum the word at index i.
func full(s *apiextensionsv1.JSONSchemaProps, i int) any {
	switch s.Type {
	case "object":
		out := map[string]any{}
		for _, name := range names(s) {
			p := s.Properties[name]
			out[name] = full(&p, i)
		}
		return out
	case "array":
		return []any{full(s.Items.Schema, i), full(s.Items.Schema, i+1)}
	case "string":
		if n := len(s.Enum); n > 0 {
			return strings.Trim(string(s.Enum[i%n].Raw), `"`)
		}
		return fmt.Sprintf("text %d", i)
	case "integer":
		return i
	case "number":
		return float64(i) + 0.5
	default:
		return i%2 == 0
	}
}

func mostWords(s *apiextensionsv1.JSONSchemaProps) int {
	most := max(1, len(s.Enum))
	if s.Items != nil {
		most = max(most, mostWords(s.Items.Schema))
	}
	for _, p := range s.Properties {
		most = max(most, mostWords(&p))
	}
	return most
}

// sample is an object without its head. refused is a part of the message, or empty when it is accepted; dropped is a path that
// the API server prunes.
type sample struct {
	kind, what, text string
	refused, dropped string
}

const (
	app  = "components: [{metadata: {name: a, uid: a1}, containers: [{image: x}]"
	node = "{continuum_layer: edge, environment: {}, hardware: {}"
)

var samples = []sample{
	{"MLSysOpsApp", "nothing but what is required", "components: [{metadata: {}, containers: [{}]}]", "", ""},
	{"MLSysOpsApp", "no components at all", "components: []", "", ""},
	{"MLSysOpsApp", "without components", "name: a", "components: Required", ""},
	{"MLSysOpsApp", "a component without containers", "components: [{metadata: {}}]", "containers: Required", ""},
	{"MLSysOpsApp", "a component without metadata", "components: [{containers: []}]", "metadata: Required", ""},
	{"MLSysOpsApp", "encryption: on (a boolean to kubectl)", app + ", storage: {buckets: [{bucket_id: b, server_side_encryption: on}]}}]", "", ""},
	{"MLSysOpsApp", `encryption: "off"`, app + `, storage: {buckets: [{bucket_id: b, server_side_encryption: "off"}]}}]`, "", ""},
	{"MLSysOpsApp", "encryption: maybe", app + ", storage: {buckets: [{bucket_id: b, server_side_encryption: maybe}]}}]", "server_side_encryption: Unsupported value", ""},
	{"MLSysOpsApp", "reduncancy: high", app + ", storage: {buckets: [{bucket_id: b, reduncancy: high}]}}]", "", ""},
	{"MLSysOpsApp", "redundancy: high (its right spelling)", app + ", storage: {buckets: [{bucket_id: b, redundancy: high}]}}]", "", "components[0].storage.buckets[0].redundancy"},
	{"MLSysOpsApp", "a bucket without its id", app + ", storage: {buckets: [{}]}}]", "bucket_id: Required", ""},
	{"MLSysOpsApp", "restart_policy: always", app + ", restart_policy: always}]", "restart_policy: Unsupported value", ""},
	{"MLSysOpsApp", "a layer that does not exist", app + ", node_placement: {continuum_layer: [moon]}}]", "continuum_layer[0]: Unsupported value", ""},
	{"MLSysOpsApp", `any layer: "*"`, app + `, node_placement: {continuum_layer: ["*"]}}]`, "", ""},
	{"MLSysOpsApp", "a sensor nobody knew", app + ", sensors: [{temperature: {model: sht41, measurement_unit: kelvin}}]}]", "", ""},
	{"MLSysOpsApp", "a camera of another resolution", app + `, sensors: [{camera: {resolution: 1920x1080}}]}]`, "", ""},
	{"MLSysOpsApp", "a resolution that is none", app + `, sensors: [{camera: {resolution: large}}]}]`, "resolution", ""},
	{"MLSysOpsApp", "a model without a name", app + `, sensors: [{temperature: {model: ""}}]}]`, "model", ""},
	{"MLSysOpsApp", "arm and riscv64", app[:len(app)-len("[{image: x}]")] + "[{image: x, platform_requirements: {cpu: {architecture: [arm, riscv64]}}}]}]", "", ""},
	{"MLSysOpsApp", "mcu: arm-m4", app[:len(app)-len("[{image: x}]")] + "[{image: x, platform_requirements: {mcu: {architecture: [arm-m4]}}}]}]", "", ""},
	{"MLSysOpsApp", "a quantity as a number", app[:len(app)-len("[{image: x}]")] + "[{image: x, platform_requirements: {cpu: {requests: 250}}}]}]", "cpu.requests: Invalid value", ""},
	{"MLSysOpsApp", "a threshold of 80", app + "}]\nglobal_satisfaction: {threshold: 80, relation: greater_than}", "", ""},
	{"MLSysOpsApp", "permitted: fly", app + "}]\npermitted_actions: [fly]", "permitted_actions[0]: Unsupported value", ""},
	{"MLSysOpsApp", "a status that came with it", app + "}]\nstatus: {phase: Deployed}", "", ""},
	{"MLSysOpsNode", "nothing but what is required", node + "}", "", ""},
	{"MLSysOpsNode", "without hardware", "{continuum_layer: edge, environment: {}}", "hardware: Required", ""},
	{"MLSysOpsNode", "lower_or_qqual", node + ", power: {target: {cost: {relation: lower_or_qqual}}}}", "", ""},
	{"MLSysOpsNode", "lower_or_equal", node + ", power: {target: {cost: {relation: lower_or_equal}}}}", "", ""},
	{"MLSysOpsNode", "suported_frameworks", node + ", acceleration_api: [{call_name: image_inference, supported_platforms: [{suported_frameworks: [pytorch]}]}]}", "", ""},
	{"MLSysOpsNode", "production of a solar panel", node + ", power: {renewable: [{name: solar_panel, production: {levels: [1, 2], measurement_unit: wh}}]}}", "", ""},
	{"MLSysOpsNode", "a MIPS router with Debian", "{continuum_layer: far_edge, environment: {os: debian, container_runtime: [process]}, hardware: {cpu: {architecture: mipsle}, mcu: {architecture: arm-M4}}}", "", ""},
	{"MLSysOpsNode", "memory as a string", `{continuum_layer: edge, environment: {}, hardware: {memory: "1"}}`, "hardware.memory: Invalid value", ""},
	{"MLSysOpsNode", "a key nobody knows", node + ", memory: 1}", "", "memory"},
	{"MLSysOpsCluster", "no nodes yet", "{cluster_id: a, nodes: []}", "", ""},
	{"MLSysOpsCluster", "without nodes", "{cluster_id: a}", "nodes: Required", ""},
	{"MLSysOpsContinuum", "without clusters", "{continuum_id: a}", "clusters: Required", ""},
	{"MLSysOpsDatacenter", "Europe as an application spells it", "{datacenter_id: d, cluster_id: c, continuum: cloud, nodes: [], continent: Europe}", "", ""},
	{"MLSysOpsDatacenter", "a continuum that is no layer", "{datacenter_id: d, cluster_id: c, continuum: sky, nodes: []}", "continuum: Unsupported value", ""},
}

// TestSamples prints, with -v, what becomes of each.
func TestSamples(t *testing.T) {
	ours := servers(t)
	var table strings.Builder
	for _, c := range samples {
		raw, err := yaml.YAMLToJSON([]byte(c.text))
		if err != nil {
			t.Fatalf("%s: %v", c.text, err)
		}
		_, pruned, errs := ours[c.kind].created(t, raw)
		outcome := "accepted"
		if len(errs) > 0 {
			outcome = "refused: " + errs[0].Error()
		}
		if len(pruned) > 0 {
			outcome += ", dropped: " + strings.Join(pruned, " ")
		}
		fmt.Fprintf(&table, "\n%-18s %-38s %s", strings.TrimPrefix(c.kind, "MLSysOps"), c.what, outcome)
		if c.refused == "" && len(errs) > 0 || c.refused != "" && !strings.Contains(fmt.Sprint(errs), c.refused) {
			t.Errorf("%s, %s: %v; wanted %q", c.kind, c.what, errs, c.refused)
		}
		if c.dropped != strings.Join(pruned, " ") {
			t.Errorf("%s, %s: dropped %v; wanted %q", c.kind, c.what, pruned, c.dropped)
		}
	}
	t.Log(table.String())
}
