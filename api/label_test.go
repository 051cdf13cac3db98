package api

import (
	"strings"
	"testing"
)

func TestLabelsAreThoseOfKubernetes(t *testing.T) {
	long := strings.Repeat("a", 63)
	domain := strings.Repeat("a.", 126) + "a" // 253
	for _, c := range []struct {
		key, value string
		ok         bool
	}{
		{"site", "a", true}, {"site", "", true}, {"Site_1.b-c", "Hall_1.b-c", true}, {"mlsysops.eu/layer", "far-edge", true},
		{long, long, true}, {domain + "/" + long, "x", true}, {"1", "1", true},
		{"", "x", false}, {"bad label", "x", false}, {"bad", "a b", false}, {"-a", "x", false}, {"a-", "x", false}, {"a", "-x", false},
		{"a", "x.", false}, {long + "a", "x", false}, {"a", long + "a", false}, {"a." + domain + "/b", "x", false}, {"/b", "x", false},
		{"a/", "x", false}, {"a/b/c", "x", false}, {"A.b/c", "x", false}, {"a..b/c", "x", false}, {"a_b/c", "x", false}, {"é", "x", false},
		{"a", "é", false}, {"a", "x,y", false}, {"a", "x=y", false}, {"a\x00", "x", false},
	} {
		err := ValidLabel("labels", c.key, c.value)
		if (err == nil) != c.ok {
			t.Errorf("%q=%q: %v; wanted ok %t", c.key, c.value, err, c.ok)
		}
		if err != nil && (!strings.Contains(err.Error(), "wanted") || !strings.HasPrefix(err.Error(), "labels") || len(err.Error()) > 400) {
			t.Errorf("%q=%q: %q does not say field, value and what was wanted, in short", c.key, c.value, err)
		}
	}
}

func TestGoodLabelsAreKeptAndTheFaultsOfTheOthersTold(t *testing.T) {
	given := map[string]string{"site": "a", "bad label": "x", "rack": "no good"}
	good, err := GoodLabels("labels", given)
	if len(good) != 1 || good["site"] != "a" || len(given) != 3 {
		t.Errorf("%v of %v", good, given)
	}
	if err == nil || !strings.Contains(err.Error(), `"bad label"`) || !strings.Contains(err.Error(), `labels[rack]: value "no good"`) {
		t.Errorf("%v", err)
	}
	if good, err := GoodLabels("labels", nil); len(good) != 0 || err != nil {
		t.Errorf("of none: %v, %v", good, err)
	}
}

func TestADeviceMayGiveItselfWhatAKubeletMay(t *testing.T) {
	given := map[string]string{}
	own := []string{"site", "example.com/rack", "mlsysops.eu/layer", "topology.kubernetes.io/zone", "node.kubernetes.io/instance-type", "kubernetes.io.example.com/a", "notk8s.io/a", "kubernetes.io"}
	others := []string{"node-restriction.kubernetes.io/pci", "node-role.kubernetes.io/control-plane", "kubernetes.io/role", "k8s.io/a", "x.k8s.io/a", "topology.kubernetes.io/rack",
		"app.kubernetes.io/managed-by", "mlsysops.eu/cluster", "mlsysops.eu/joined-by", "runtime.mlsysops.eu/wasm", "sensor.mlsysops.eu/camera"}
	for _, k := range append(own, others...) {
		given[k] = "x"
	}
	good, err := OwnLabels("labels", given)
	for _, k := range own {
		if good[k] != "x" {
			t.Errorf("%s was left out", k)
		}
	}
	for _, k := range others {
		if _, kept := good[k]; kept || !strings.Contains(err.Error(), `"`+k+`"`) {
			t.Errorf("%s was kept, or not told: %v", k, err)
		}
	}
	if all, err := GoodLabels("labels", given); len(all) != len(given) || err != nil {
		t.Errorf("of a person %v are left, %v", all, err)
	}
}
