package cluster

import (
	"slices"
	"testing"

	"github.com/skerry-edge/skerry/configs"
)

// A join string that names addresses on which nobody listens lets no device in.
func TestOnlyWhatIsListenedOnIsAdvertised(t *testing.T) {
	for _, c := range []struct {
		listen string
		set    []string
		want   []string // nil: what this machine has
	}{
		{"127.0.0.1:8443", nil, []string{"127.0.0.1"}},
		{"[::1]:8443", nil, []string{"::1"}},
		{"site.example:8443", nil, []string{"site.example"}},
		{"127.0.0.1:8443", []string{"gate.example"}, []string{"gate.example"}}, // behind a proxy
		{":8443", nil, nil},
		{"0.0.0.0:8443", nil, nil},
		{"[::]:8443", nil, nil},
	} {
		a := &Agent{cfg: configs.Cluster{Advertise: c.set, HTTP: configs.ClusterHTTP{Listen: c.listen}}}
		got, err := a.advertised()
		if err != nil || c.want != nil && !slices.Equal(got, c.want) || c.want == nil && (len(got) == 0 || slices.Contains(got, "127.0.0.1")) {
			t.Errorf("%s, %v: %v, %v; wanted %v", c.listen, c.set, got, err, c.want)
		}
	}
}
