package crd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/test/description"
)

// intended lists every place where a schema of ours is not the framework's, with what differs and why. Nothing here refuses
// what the framework takes.
var intended = map[string]map[string]string{
	"MLSysOpsApp": {
		"cluster_placement.accelerators[]: open":                                          open,
		"cluster_placement.cloud_provider: open":                                          open,
		"cluster_placement.location.city[]: open":                                         open,
		"cluster_placement.location.continent[]: open":                                    open,
		"cluster_placement.location.country[]: open":                                      open,
		"components[].container_runtime: open":                                            open,
		"components[].containers[].acceleration_api[].call_name: open":                    open,
		"components[].containers[].acceleration_api[].required_framework: open":           open,
		"components[].containers[].platform_requirements.cpu.architecture[]: open":        open,
		"components[].containers[].platform_requirements.fpga.model: open":                open,
		"components[].containers[].platform_requirements.gpu.model: open":                 open,
		"components[].containers[].platform_requirements.mcu.architecture[]: open":        open,
		"components[].os: open":                                                           open,
		"components[].qos_metrics[].system_metrics_hints[]: open":                         open,
		"components[].runtime_class_name: open":                                           open,
		"components[].sensors[].accelerometer.measurement_unit: open":                     open,
		"components[].sensors[].accelerometer.model: open":                                open,
		"components[].sensors[].air_quality.measurement_unit: open":                       open,
		"components[].sensors[].air_quality.model: open":                                  open,
		"components[].sensors[].barometer.measurement_unit: open":                         open,
		"components[].sensors[].barometer.model: open":                                    open,
		"components[].sensors[].camera.camera_type: open":                                 open,
		"components[].sensors[].camera.model: open":                                       open,
		"components[].sensors[].camera.resolution: open":                                  open,
		"components[].sensors[].protocol: open":                                           open,
		"components[].sensors[].temperature.measurement_unit: open":                       open,
		"components[].sensors[].temperature.model: open":                                  open,
		`components[].storage.buckets[].server_side_encryption: type "", wanted "string"`: "on and off are booleans in YAML 1.1",
		"components[].storage.buckets[].server_side_encryption: enum with false":          "on and off are booleans in YAML 1.1",
		"components[].storage.buckets[].server_side_encryption: enum with true":           "on and off are booleans in YAML 1.1",
		"status: extra": status,
	},
	"MLSysOpsNode": {
		"acceleration_api[].call_name: open":                                   open,
		"acceleration_api[].supported_platforms[].name: open":                  open,
		"acceleration_api[].supported_platforms[].suported_frameworks[]: open": open,
		"environment.container_runtime[]: open":                                open,
		"environment.os: open":                                                 open,
		"hardware.cpu.architecture: open":                                      open,
		"hardware.fpga.model: open":                                            open,
		"hardware.gpu.model: open":                                             open,
		"hardware.mcu.architecture: open":                                      open,
		"network_resources.basic_interface.name: open":                         open,
		"network_resources.redirection_interface[].connection_type: open":      open,
		"power.battery.capacity.measurement_unit: open":                        open,
		"power.renewable[].name: open":                                         open,
		"power.renewable[].production: extra":                                  "the framework's file has it, indented where it has no effect",
		`power.target.co2_emission.relation: enum with "lower_or_equal"`:       "the right spelling beside the wrong one",
		`power.target.consumption.relation: enum with "lower_or_equal"`:        "the right spelling beside the wrong one",
		`power.target.cost.relation: enum with "lower_or_equal"`:               "the right spelling beside the wrong one",
		"sensors[].accelerometer.measurement_unit: open":                       open,
		"sensors[].accelerometer.model: open":                                  open,
		"sensors[].air_quality.measurement_unit: open":                         open,
		"sensors[].air_quality.model: open":                                    open,
		"sensors[].barometer.measurement_unit: open":                           open,
		"sensors[].barometer.model: open":                                      open,
		"sensors[].camera.model: open":                                         open,
		"sensors[].camera.supported_resolutions[]: open":                       open,
		"sensors[].protocol: open":                                             open,
		"sensors[].temperature.measurement_unit: open":                         open,
		"sensors[].temperature.model: open":                                    open,
		"status: extra":                                                        status,
	},
	"MLSysOpsCluster":   {"status: extra": status},
	"MLSysOpsContinuum": {"status: extra": status},
	"MLSysOpsDatacenter": {
		"city: open": open, "cloud_provider: open": open, "continent: open": open, "country: open": open,
		"status: extra": status,
	},
}

const (
	open   = "an open word: the enum would only keep out what the framework does not know"
	status = "the status subresource"
)

func TestTypesHaveTheFieldsAndWordsOfTheFramework(t *testing.T) {
	crds := readCRDs(t)
	for _, kind := range description.Kinds {
		root := crds[kind].Spec.Versions[0].Schema.OpenAPIV3Schema.DeepCopy()
		for _, name := range []string{"apiVersion", "kind", "metadata"} {
			delete(root.Properties, name)
		}
		left := map[string]bool{}
		for d := range intended[kind] {
			left[d] = true
		}
		for _, d := range compare(readTree(t, kind), root) {
			if !left[d.String()] {
				t.Errorf("%s: %s", kind, d)
			}
			delete(left, d.String())
		}
		for d := range left {
			t.Errorf("%s: %s is intended and not so", kind, d)
		}
		text, err := os.ReadFile(filepath.Join("testdata", "tree", kind+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%-18s %3d fields, %2d intended differences", kind, strings.Count(string(text), "\n"), len(intended[kind]))
	}
}

// TestADifferenceIsSeen changes one line of the tree at a time; each change has to be told of.
func TestADifferenceIsSeen(t *testing.T) {
	const tree = "name!: string\nsize: integer\nmode: string{a|b}\nlist: [object]\n  item: number\n  words: [string{x|y}]\n"
	for _, c := range []struct{ from, to, want string }{
		{"size: integer\n", "", "size: missing"},
		{"size: integer\n", "size: integer\nmore: string\n", "more: extra"},
		{"size: integer", "size: number", `size: type "number", wanted "integer"`},
		{"name!: string", "name: string", "name: required false"},
		{"size: integer", "size!: integer", "size: required true"},
		{"string{a|b}", "string{a}", `mode: enum without "b"`},
		{"string{a|b}", "string{a|b|c}", `mode: enum with "c"`},
		{"string{a|b}", "string", `mode: open "a" "b"`},
		{"  item: number\n", "", "list[].item: missing"},
		{"  item: number\n", "  item: number\n  other: boolean\n", "list[].other: extra"},
		{"x|y", "x|z", `list[].words[]: enum without "y"`},
		{"[object]", "object", `list: type "object", wanted "array"`},
	} {
		want, err := description.ParseFields(tree)
		if err != nil {
			t.Fatal(err)
		}
		got, err := description.ParseFields(strings.Replace(tree, c.from, c.to, 1))
		if err != nil {
			t.Fatal(err)
		}
		var seen []string
		for _, d := range compare(schemaOf(want), schemaOf(got)) {
			seen = append(seen, d.String())
		}
		if !slices.Contains(seen, c.want) {
			t.Errorf("%q instead of %q: %v; wanted %s", c.to, c.from, seen, c.want)
		}
	}
	for _, bad := range []string{"name string", "name: text", "a: string\n    b: string", "a: string\na: string", "a: [string"} {
		if _, err := description.ParseFields(bad); err == nil {
			t.Errorf("the tree %q is taken", bad)
		}
	}
}
