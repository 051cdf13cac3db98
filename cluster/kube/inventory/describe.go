package inventory

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry-edge/skerry/api"
	v1 "github.com/skerry-edge/skerry/api/v1"
)

// Description is what the cluster agent says about a node in its MLSysOpsNode. Values are those of JSON: strings, int64, lists,
// maps.
type Description struct {
	// Facts are what the device itself is the authority on. They are put right whoever wrote them.
	Facts map[string]any
	// Seeds are guesses of what a person knows better. Each is a whole field at the root or one below environment. One that somebody
	// else has written is theirs for good.
	Seeds []Seed
	// Labels of the object: those of the node.
	Labels map[string]string
}

// Seed is a field and the value that it gets unless somebody says better.
type Seed struct {
	Path  []string // from the root of the object
	Value any
}

// LabelLayer is the label of a node that says its layer of the continuum.
const LabelLayer = "mlsysops.eu/layer"

// Describe tells what there is to say about n. layer is that of nodes without LabelLayer.
func Describe(n *api.Node, layer v1.Layer) Description {
	d := Description{Labels: n.Labels, Facts: map[string]any{"name": n.ID, "cluster_id": n.Cluster}}
	hardware, environment := map[string]any{}, map[string]any{}
	if l := v1.Layer(n.Labels[LabelLayer]); slices.Contains([]v1.Layer{v1.LayerCloud, v1.LayerEdgeInfrastructure, v1.LayerEdge, v1.LayerFarEdge}, l) {
		layer = l
	}
	d.seed(string(layer), "continuum_layer")
	if words := labelWords(n.Labels); len(words) > 0 {
		d.seed(words, "labels")
	}
	if b := n.Birth; b != nil {
		hardware = describeHost(&b.Host)
		if os := system(b.Host.OS); os != "" {
			d.seed(os, "environment", "os")
		}
		if len(b.Runtimes) > 0 {
			environment["container_runtime"] = texts(b.Runtimes)
		}
		if s := describeSensors(b.Sensors); len(s) > 0 {
			d.seed(s, "sensors")
		}
	}
	d.Facts["hardware"], d.Facts["environment"] = hardware, environment // required, empty for a device that has never connected
	return d
}

func (d *Description) seed(value any, path ...string) { d.Seeds = append(d.Seeds, Seed{path, value}) }

// describeHost gives memory and disk in GB, as the framework has them. A kernel tells somewhat less than is built in, so they
// are rounded to the nearest; a disk of less than 10 GB has one decimal.
func describeHost(h *api.Host) map[string]any {
	out, cpu := map[string]any{}, map[string]any{}
	if h.Arch != "" {
		cpu["architecture"] = h.Arch
	}
	if h.CPUs > 0 {
		cpu["cores"] = int64(h.CPUs)
	}
	if len(cpu) > 0 {
		out["cpu"] = cpu
	}
	if h.MemoryBytes > 0 {
		out["memory"] = int64(math.Round(float64(h.MemoryBytes) / (1 << 30)))
	}
	if h.DiskBytes > 0 {
		gb, digits := float64(h.DiskBytes)/1e9, 0
		if gb < 10 {
			digits = 1
		}
		out["disk"] = strconv.FormatFloat(gb, 'f', digits, 64)
	}
	return out
}

// system makes the framework's word of a system's own name: ubuntu of "Ubuntu 24.04.1 LTS".
func system(pretty string) string {
	word, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(pretty)), " ")
	return strings.TrimFunc(word, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9') })
}

// sensorKinds are the kinds of sensor that the framework has a place for, by the names that probes give them.
var sensorKinds = map[string]string{"camera": "camera", "temperature": "temperature", "humidity": "humidity", "sound": "sound",
	"co2": "co2", "accelerometer": "accelerometer", "acceleration": "accelerometer", "barometer": "barometer", "pressure": "barometer",
	"air_quality": "air_quality"}

// maxWord is how long a v1.Word may be.
const maxWord = 253

// describeSensors leaves out what the framework has no place for: such a sensor is in the birth, and in telemetry.
func describeSensors(sensors []api.Sensor) []any {
	var out []any
	for _, s := range sensors {
		kind, ok := sensorKinds[strings.ReplaceAll(strings.ToLower(s.Kind), "-", "_")]
		if !ok {
			continue
		}
		about := map[string]any{}
		if s.Model != "" {
			about["model"] = s.Model[:min(len(s.Model), maxWord)]
		}
		out = append(out, map[string]any{kind: about})
	}
	return out
}

// labelWords are a node's labels as node_placement.labels asks for them: key=value, or the key alone where the value says
// nothing.
func labelWords(labels map[string]string) []any {
	var out []any
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		switch v := labels[k]; v {
		case "", "true":
			out = append(out, k)
		default:
			out = append(out, fmt.Sprintf("%s=%s", k, v))
		}
	}
	return out
}

func texts(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
