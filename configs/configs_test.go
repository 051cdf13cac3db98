package configs

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultsAreValid(t *testing.T) {
	if _, err := LoadEdge(Source{}); err != nil {
		t.Errorf("edge: %v", err)
	}
	if _, err := LoadCluster(Source{}); err != nil {
		t.Errorf("cluster: %v", err)
	}
}

func TestLaterSourcesWin(t *testing.T) {
	src := Source{File: write(t, "telemetry: {interval: 20s, batch_rows: 2}\nautonomy: 2d\nlog: {level: warn}\n"),
		Overlay: map[string]any{"telemetry.interval": "30s", "autonomy": "3d"},
		Env:     []string{"SKERRY_EDGE_AUTONOMY=4d", "SKERRY_EDGE_LABELS=a=1, b=2", "PATH=/bin"},
		Flags:   map[string]string{"log.level": "debug"}}
	cfg, err := LoadEdge(src)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Telemetry.BatchRows != 2 || cfg.Telemetry.Interval != 30*time.Second || cfg.Autonomy != 96*time.Hour || cfg.Log.Level != "debug" {
		t.Errorf("rows %d, interval %s, autonomy %s, level %s; wanted 2, 30s, 96h, debug", cfg.Telemetry.BatchRows, cfg.Telemetry.Interval,
			cfg.Autonomy, cfg.Log.Level)
	}
	if len(cfg.Labels) != 2 || cfg.Labels[1] != "b=2" {
		t.Errorf("labels %q; wanted a=1 and b=2", cfg.Labels)
	}
}

func TestEveryFaultIsReportedAtOnce(t *testing.T) {
	_, err := LoadEdge(Source{Flags: map[string]string{"node": "Bad Node", "dir": "relative", "log.level": "loud", "mqtt.encoding": "xml"}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"node", "Bad Node", "dir", "relative", "log.level", "loud", "mqtt.encoding", "xml"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not mention %q:\n%v", want, err)
		}
	}
}

func TestAnIdentityProviderIsCheckedWhole(t *testing.T) {
	good := "http: {oidc: {issuer: 'https://id.example/realms/site', client_id: skerry, roles: {operator: [ops], admin: [site-admins]}}}"
	cfg, err := LoadCluster(Source{File: write(t, good), Env: []string{"SKERRY_CLUSTER_HTTP_OIDC_ROLES_VIEWER=staff, guests"}})
	if o := cfg.HTTP.OIDC; err != nil || o.UsernameClaim != "sub" || o.GroupsClaim != "groups" || len(o.Roles.Viewer) != 2 || o.Roles.Admin[0] != "site-admins" {
		t.Errorf("%+v, %v", o, err)
	}
	_, err = LoadCluster(Source{Flags: map[string]string{"http.oidc.issuer": "http://id.example?x=1", "http.oidc.username_claim": "",
		"http.oidc.groups_claim": "", "http.oidc.ca_file": "ca.pem", "http.oidc.roles.viewer": "a,", "http.oidc.roles.admin": "a"}})
	for _, want := range []string{"issuer \"http://id.example?x=1\"", "client_id: wanted", "username_claim (--set): wanted", "groups_claim (--set): wanted",
		"ca_file \"ca.pem\"", "no empty group", "roles \"a\": wanted each group under one role"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not mention %s:\n%v", want, err)
		}
	}
	if _, err := LoadCluster(Source{Flags: map[string]string{"http.oidc.client_id": "skerry"}}); err == nil {
		t.Error("a client id without an issuer is no fault")
	}
	if _, err := LoadCluster(Source{Flags: map[string]string{"http.oidc.issuer": "https://id.example", "http.oidc.client_id": "c"}}); err == nil {
		t.Error("an issuer whose tokens give nobody a role is no fault")
	}
}

func TestWhatNobodyKnowsIsAFault(t *testing.T) {
	for name, src := range map[string]Source{
		"file":   {File: write(t, "telemetri: {interval: 20s}\n")},
		"nested": {File: write(t, "telemetry: {intervall: 20s}\n")},
		"env":    {Env: []string{"SKERRY_EDGE_TELEMETRI_INTERVAL=20s"}},
		"flag":   {Flags: map[string]string{"telemetry.intervall": "20s"}},
		"unit":   {Flags: map[string]string{"telemetry.interval": "20"}},
		"absent": {File: "/does/not/exist.yaml", Required: true},
	} {
		if _, err := LoadEdge(src); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNothingThatGivesPowerOverTheDeviceCanBeSetRemotely(t *testing.T) {
	for _, key := range RemoteKeys() {
		for _, closed := range []string{"command.", "join", "dir", "runtime_dir", "node", "telemetry.user"} {
			if strings.HasPrefix(key, closed) {
				t.Errorf("%s can be set remotely", key)
			}
		}
		if _, err := LoadEdge(Source{Overlay: map[string]any{key: nil}}); err != nil && strings.Contains(err.Error(), "a key that") {
			t.Errorf("%s is no key", key)
		}
	}
}

func TestEverySettingOfTheEdgeCanBeSetRemotelyOrHasAReasonNotTo(t *testing.T) {
	var keys []string
	var walk func(prefix string, of reflect.Type)
	walk = func(prefix string, of reflect.Type) {
		for i := range of.NumField() {
			f := of.Field(i)
			key := prefix + f.Tag.Get("mapstructure")
			if f.Type.Kind() == reflect.Struct {
				walk(key+".", f.Type)
				continue
			}
			keys = append(keys, key)
		}
	}
	walk("", reflect.TypeFor[Edge]())
	if len(keys) < 30 {
		t.Fatalf("found only %v", keys)
	}
	for _, key := range keys {
		why := WhyNotRemote(key)
		if remote := slices.Contains(RemoteKeys(), key); !remote && strings.Contains(why, "no such setting") {
			t.Errorf("%s: neither settable nor refused for a reason: %s", key, why)
		}
		if strings.HasPrefix(key, "outbox.") && !slices.Contains(RemoteKeys(), key) {
			t.Errorf("%s cannot be set remotely; it needs no restart", key)
		}
	}
	if why := WhyNotRemote("outbox.max_byte"); !strings.Contains(why, "no such setting") || !strings.Contains(why, "outbox.max_bytes") {
		t.Errorf("a misspelt key: %s", why)
	}
}

// TestTheDocumentationListsWhatCanBeSetRemotely compares the list in docs/operations.md with the code.
func TestTheDocumentationListsWhatCanBeSetRemotely(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(text), "These keys can be set from afar, and no others:\n\n")
	list, _, _ = strings.Cut(list, "\n\n")
	got, want := strings.Fields(list), RemoteKeys()
	slices.Sort(got)
	slices.Sort(want)
	if !ok || !slices.Equal(got, want) {
		t.Errorf("docs/operations.md lists %v; the code takes %v", got, want)
	}
}

func TestRenderHidesTheJoinString(t *testing.T) {
	cfg, err := LoadEdge(Source{Flags: map[string]string{"join": "skerry1.SECRET"}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := Render(cfg)
	if err != nil || strings.Contains(text, "SECRET") || !strings.Contains(text, "interval: 10s") || !strings.Contains(text, "max_bytes: 16MiB") {
		t.Errorf("render: %v\n%s", err, text)
	}
}

// TestRenderWritesTheDefaultsAsTheFilesDo compares days and sizes with the text of the commented files, and reads what was
// written.
func TestRenderWritesTheDefaultsAsTheFilesDo(t *testing.T) {
	edge, err := LoadEdge(Source{})
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := LoadCluster(Source{})
	if err != nil {
		t.Fatal(err)
	}
	ofEdge, err := Render(edge)
	if err != nil {
		t.Fatal(err)
	}
	ofCluster, err := Render(cluster)
	if err != nil {
		t.Fatal(err)
	}
	for text, wanted := range map[string][]string{
		ofEdge:    {"autonomy: 24h\n", "max_age: 7d\n", "backoff_max: 5m\n", "max_bytes: 16MiB\n"},
		ofCluster: {"certificate_life: 90d\n", "renew_grace: 90d\n", "max_deadline: 7d\n", "retention: 15d\n", "reserve: 0\n", "lost_after: 24h\n"},
	} {
		for _, want := range wanted {
			if !strings.Contains(text, want) {
				t.Errorf("wanted %s in\n%s", want, text)
			}
		}
	}
	if again, err := LoadEdge(Source{File: write(t, ofEdge)}); err != nil || !reflect.DeepEqual(again.Telemetry, edge.Telemetry) || again.Autonomy != edge.Autonomy {
		t.Errorf("%v: what was written is read as %+v", err, again)
	}
	if again, err := LoadCluster(Source{File: write(t, ofCluster)}); err != nil || !reflect.DeepEqual(again.Telemetry, cluster.Telemetry) {
		t.Errorf("%v: what was written is read as %+v", err, again)
	}
}

func TestDurationsAreWrittenAsTheyAreRead(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 90 * 24 * time.Hour: "90d", 24 * time.Hour: "24h", 36 * time.Hour: "36h", time.Hour: "1h",
		time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour + time.Second: "1h0m1s", 10 * time.Minute: "10m", 500 * time.Millisecond: "500ms", -48 * time.Hour: "-2d"} {
		got := FormatDuration(d)
		if again, err := ParseDuration(got); got != want || err != nil || again != d {
			t.Errorf("%v: %s, read as %v, %v; wanted %s", d, got, again, err, want)
		}
	}
	if d, err := ParseDuration("200000d"); err == nil {
		t.Errorf("200000d is %s; wanted an error", d)
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"", "1", "16MiB", "1.5GiB", "-1B", "9e99TiB", "NaN"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseBytes(s); err == nil && n < 0 {
			t.Errorf("ParseBytes(%q) = %d", s, n)
		}
	})
}

func FuzzLoadEdge(f *testing.F) {
	f.Add("telemetry: {interval: 20s}")
	f.Add("labels: [a=b]\ncommand: {exec: [{name: x, argv: [/bin/true]}]}")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := LoadEdge(Source{File: write(t, text)})
		if err == nil && cfg.Validate() != nil {
			t.Error("a configuration was loaded that is not valid")
		}
	})
}

func TestAReplicaHasToBeOneOfThoseNamedAndHasABrokerElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		flags map[string]string
		want  string
	}{
		"alone":      {nil, ""},
		"fine":       {map[string]string{"replica.name": "a", "replica.names": "a,b", "mqtt.external": "mqtts://b:8883"}, ""},
		"unknown":    {map[string]string{"replica.name": "c", "replica.names": "a,b", "mqtt.external": "mqtts://b:8883"}, "one of replica.names"},
		"embedded":   {map[string]string{"replica.name": "a", "replica.names": "a,b"}, "an external broker"},
		"bad name":   {map[string]string{"replica.names": "a,B"}, "replica.names"},
		"hasty":      {map[string]string{"replica.timeout": "1s"}, "at least 4s"},
		"names only": {map[string]string{"replica.names": "a,b"}, ""}, // for broker-config
	} {
		_, err := LoadCluster(Source{Flags: c.flags})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; wanted %q", name, err, c.want)
		}
	}
}

func TestTheBridgeToKubernetesIsCheckedWhole(t *testing.T) {
	cfg, err := LoadCluster(Source{File: write(t, "mode: k3s\nkube: {namespace: barn, refresh: 10m}\n")})
	if err != nil || cfg.Kube.Namespace != "barn" || cfg.Kube.Refresh != 10*time.Minute || cfg.Kube.Layer != "far_edge" || !cfg.Kube.InstallCRDs {
		t.Errorf("%+v, %v", cfg.Kube, err)
	}
	_, err = LoadCluster(Source{Flags: map[string]string{"mode": "k8s", "kube.kubeconfig": "admin.conf", "kube.namespace": "a.b", "kube.layer": "fog",
		"kube.command_role": "root", "kube.refresh": "1s"}})
	for _, want := range []string{"mode \"k8s\"", "kube.kubeconfig \"admin.conf\"", "kube.namespace \"a.b\"", "kube.layer \"fog\"", "kube.command_role \"root\"", "kube.refresh \"1s\""} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not mention %s:\n%v", want, err)
		}
	}
	for _, flags := range []map[string]string{{"kube.kubeconfig": "/etc/admin.conf"}, {"mode": "kube", "cluster": "barn-"},
		{"kube.kubelet_via": "vpn"}, {"kube.host_network": "no"}, {"kube.kubelet_via": "k3s", "kube.address": "10.0.0.1"}, {"kube.address": "a b"},
		{"kube.kubelet_listen": ":10250", "kube.kubelet_ports": "1"}, {"kube.kubelet_listen": ":10200", "kube.kubelet_ports": "51"}} {
		if _, err := LoadCluster(Source{Flags: flags}); err == nil {
			t.Errorf("%v is no fault", flags)
		}
	}
	for _, flags := range []map[string]string{{"kube.kubelet_via": "direct", "kube.address": "10.0.0.1"}, {"kube.kubelet_via": "k3s", "kube.address": "skerry.example"},
		{"kube.kubelet_listen": ":10200", "kube.kubelet_ports": "50"}, {"kube.kubelet_listen": ":10251"}} {
		if _, err := LoadCluster(Source{Flags: flags}); err != nil {
			t.Errorf("%v: %v", flags, err)
		}
	}
}

func TestAPortThatIsNoneIsAFault(t *testing.T) {
	for addr, ok := range map[string]bool{":8883": true, "[::]:443": true, ":https": true, ":99999": false, ":nosuchport": false, ":": false} {
		if _, err := LoadCluster(Source{Flags: map[string]string{"mqtt.listen": addr}}); (err == nil) != ok {
			t.Errorf("mqtt.listen %s: %v", addr, err)
		}
	}
}
