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

// NodeRestriction's list: what a kubelet may set of its own Node.
func TestADeviceGivesItselfNoLabelOfKubernetesThatAKubeletCouldNot(t *testing.T) {
	for key, may := range map[string]bool{"site": true, "example.org/site": true, "mlsysops.eu/layer": true, "topology.kubernetes.io/zone": true, "node.kubernetes.io/instance-type": true,
		"x.kubelet.kubernetes.io/a": true, "notkubernetes.io/a": true, "node-role.kubernetes.io/control-plane": false, "node-restriction.kubernetes.io/pci": false,
		"kubernetes.io/cluster-service": false, "a.k8s.io/b": false, "topology.kubernetes.io/other": false, "app.kubernetes.io/managed-by": false} {
		good, err := DeviceLabels("labels", map[string]string{key: "x", "other": "y"})
		if _, kept := good[key]; kept != may || (err == nil) != may || good["other"] != "y" {
			t.Errorf("%s: %v, %v; wanted it kept: %t", key, good, err, may)
		}
	}
}
