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
