package inventory

import (
	"encoding/json"
	"reflect"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skerry-edge/skerry/api"
	v1 "github.com/skerry-edge/skerry/api/v1"
	"github.com/skerry-edge/skerry/cluster/kube/apply"
)

func device() *api.Node {
	return &api.Node{ID: "pi-a", Cluster: "barn-1", Presence: api.PresenceOnline, Reason: "connected", Since: 1_764_000_000_000, LastSeen: 1_764_000_100_000,
		Enrolled: 1_763_000_000_000, KeySHA256: "0123456789abcdef0123", Labels: map[string]string{"greenhouse": "true", "row": "7"},
		Birth: &api.Birth{Node: "pi-a", Runtimes: []string{"containerd"}, Sensors: []api.Sensor{{Kind: "temperature", Model: "ds18b20"}, {Kind: "fan"}, {Kind: "pressure"}},
			Host: api.Host{OS: "Ubuntu 24.04.1 LTS", Arch: "arm64", CPUs: 4, MemoryBytes: 1_979_711_488, DiskBytes: 15_931_539_456}}}
}

// render is what is applied when there is live, and whether there is nothing to do.
func render(t *testing.T, n *api.Node, live *v1.MLSysOpsNode) (*v1.MLSysOpsNode, bool) {
	t.Helper()
	want, same, err := Render(n, Describe(n, v1.LayerFarEdge), live, "mlsysops")
	if err != nil {
		t.Fatal(err)
	}
	out := &v1.MLSysOpsNode{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(want.Object, out); err != nil {
		t.Fatal(err)
	}
	return out, same
}

func TestADeviceIsDescribedInTheFrameworksTerms(t *testing.T) {
	o, _ := render(t, device(), nil)
	raw, err := json.Marshal(o.NodeDescription)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"name":"pi-a","labels":["greenhouse","row=7"],"continuum_layer":"far_edge","cluster_id":"barn-1",` +
		`"sensors":[{"temperature":{"model":"ds18b20"}},{"barometer":{}}],"environment":{"os":"ubuntu","container_runtime":["containerd"]},` +
		`"hardware":{"cpu":{"architecture":"arm64","cores":4},"memory":2,"disk":"16"}}`
	if string(raw) != want {
		t.Errorf("described as\n%s\nwanted\n%s", raw, want)
	}
	if o.GetLabels()["row"] != "7" || o.GetLabels()[LabelCluster] != "barn-1" || o.Finalizers[0] != Finalizer {
		t.Errorf("metadata %+v; wanted the node's labels, its cluster and the finalizer", o.ObjectMeta)
	}
}

func TestADeviceThatNeverConnectedHasAnObject(t *testing.T) {
	n := device()
	n.Birth, n.Labels = nil, map[string]string{LabelLayer: "edge"}
	o, _ := render(t, n, nil)
	if o.ContinuumLayer != v1.LayerEdge || o.Hardware.CPU != nil {
		t.Errorf("%+v; wanted the layer of the label, and no hardware", o.NodeDescription)
	}
	n.Labels[LabelLayer] = "elsewhere"
	if o, _ = render(t, n, nil); o.ContinuumLayer != v1.LayerFarEdge {
		t.Errorf("layer %q of a label that is none; wanted the default", o.ContinuumLayer)
	}
}

func TestWhatIsThereAlreadyIsNotWritten(t *testing.T) {
	n := device()
	live, same := render(t, n, nil)
	if same {
		t.Fatal("nothing to do for a node without an object")
	}
	if _, same = render(t, n, live); !same {
		t.Error("the object is written again as it is")
	}
	live.Finalizers = append([]string{"example.com/other"}, live.Finalizers...)
	live.PermittedActions = []v1.NodeAction{"*"}
	live.Environment.NodeType = "native"
	if _, same = render(t, n, live); !same {
		t.Error("what others added has the object written again")
	}
	cores := int64(99)
	live.Hardware.CPU.Cores = &cores
	if _, same = render(t, n, live); same {
		t.Error("a wrong fact of the device is left as it is")
	}
	live, _ = render(t, n, nil)
	n.Labels = map[string]string{"greenhouse": "true"}
	if _, same = render(t, n, live); same {
		t.Error("a label that is gone stays")
	}
}

func TestAFieldThatSomebodyElseWroteIsTheirs(t *testing.T) {
	n := device()
	live, _ := render(t, n, nil)
	live.ContinuumLayer, live.Environment.OS = v1.LayerEdge, "kali"
	live.ManagedFields = []metav1.ManagedFieldsEntry{
		{Manager: apply.Owner, Operation: metav1.ManagedFieldsOperationApply, FieldsV1: metav1.NewFieldsV1(`{"f:sensors":{},"f:labels":{}}`)},
		{Manager: "kubectl-edit", Operation: metav1.ManagedFieldsOperationUpdate, FieldsV1: metav1.NewFieldsV1(`{"f:continuum_layer":{},"f:environment":{"f:os":{}},"f:hardware":{"f:memory":{}}}`)},
		{Manager: "other", Subresource: "status", FieldsV1: metav1.NewFieldsV1(`{"f:sensors":{}}`)},
	}
	o, same := render(t, n, live)
	if same {
		t.Error("nothing to do, although fewer fields are the agent's now")
	}
	if o.ContinuumLayer != "" || o.Environment.OS != "" {
		t.Errorf("layer %q and system %q are written over those that somebody chose", o.ContinuumLayer, o.Environment.OS)
	}
	if o.Hardware.Memory == nil || len(o.Sensors) != 2 || len(o.NodeDescription.Labels) != 2 {
		t.Errorf("%+v; wanted facts whoever wrote them, and what is the agent's still", o.NodeDescription)
	}
	stripped, err := Strip(live)
	if err != nil || len(stripped.(*v1.MLSysOpsNode).ManagedFields) != 1 {
		t.Errorf("%v, %+v; wanted the fields of kubectl-edit alone", err, stripped)
	}
}

func TestTheListKeepsWhatOthersWroteAndDropsWhatWasRemovedHere(t *testing.T) {
	removed := func(name string) (bool, error) { return name == "gone", nil }
	nodes := []api.Node{{ID: "b"}, {ID: "a"}}
	got, err := Members(nodes, []string{"server-1", "gone", "b"}, removed)
	if err != nil || !reflect.DeepEqual(got, []string{"a", "b", "server-1"}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err = Members(nil, []string{"a", "b"}, removed); err != nil || len(got) != 2 {
		t.Errorf("an empty registry leaves %v, %v; wanted both", got, err)
	}
}
