package kube

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/configs"
	"github.com/skerry-edge/skerry/test/freeport"
	"github.com/skerry-edge/skerry/test/system"
)

func TestTheChartHasNothingToComplainOf(t *testing.T) {
	out, err := newHelm(t, nil).run(t, "lint", "--strict", chart())
	if err != nil {
		t.Error(err)
	}
	if strings.Contains(out, "[WARNING]") {
		t.Error(out)
	}
}

func TestValuesThatAreWrongAreRefusedByName(t *testing.T) {
	h := newHelm(t, nil)
	for values, want := range map[string]string{
		"replicas: 2":                                     "additional properties 'replicas' not allowed",
		"config: {cluster: Barn}":                         "/config/cluster",
		"config: {cluster: a.b}":                          "/config/cluster",
		"config: {mode: k3s}":                             "/config/mode",
		"config: {dir: /tmp}":                             "additional properties 'dir' not allowed",
		"config: {kube: {namespace: other}}":              "additional properties 'namespace' not allowed",
		"config: {mqtt: {max_connection: 1}}":             "additional properties 'max_connection' not allowed",
		"config: {telemetry: {retention: 15}}":            "/config/telemetry/retention",
		"config: {telemetry: {retention_bytes: 2 GB}}":    "/config/telemetry/retention_bytes",
		"config: {http: {listen: 8443}}":                  "/config/http/listen",
		"config: {images: {registries: [{mirrors: []}]}}": "missing property 'name'",
		"image: {pullPolicy: Sometimes}":                  "/image/pullPolicy",
		"image: {digest: sha256:12}":                      "/image/digest",
		"service: {type: Public}":                         "/service/type",
		"persistence: {size: much}":                       "/persistence/size",
		"podDisruptionBudget: {maxUnavailable: 2}":        "/podDisruptionBudget/maxUnavailable",
		"rbac: {create: maybe}":                           "/rbac/create",
		"goMemLimit: 2Gi":                                 "/goMemLimit",
		"config: {cluster: cluster}":                      "wanted another name for one of them",
	} {
		_, err := h.render(t, "skerry-cluster", "mlsysops", values)
		if err := refusedWith(err, want); err != nil {
			t.Errorf("%s: %v", values, err)
		}
	}
}

// combinations are values that change much, each with what has to be in what comes out, and what may not.
var combinations = map[string]struct{ values, has, lacks string }{
	"defaults":    {"{}", "kind: StatefulSet|- secrets", "%-k3s-join|kube-system"},
	"joining":     {"rbac: {k3sJoin: true}", "%-k3s-join", ""},
	"few secrets": {"rbac: {secretsIn: [chart-a, default]}", "name: %-secrets|namespace: default", "- secrets\n  - configmaps"},
	"standalone":  {"config: {mode: standalone, advertise: [hub.example, 192.0.2.1]}", "automountServiceAccountToken: false", "kind: ClusterRole|KUBE_ADDRESS|endPort"},
	"replica": {"config: {mqtt: {external: 'mqtts://broker:8883'}, replica: {name: a, names: [a, b]}}", "name: skerry-local-a",
		"name: mqtt|containerPort: 8883"},
	"node ports": {"service: {type: NodePort}\nconfig: {mqtt: {listen: ':30883'}, http: {listen: ':30443'}}", "nodePort: 30883|containerPort: 30443", ""},
	"fewer rights": {"rbac: {secrets: false, tunnel: false}\nconfig: {kube: {kubelet_via: direct, address: 192.0.2.7}}", "name: %-virtual-nodes",
		"%-tunnel|%-k3s-join|- secrets|KUBE_ADDRESS"},
	"no rights": {"rbac: {create: false}", "kind: ServiceAccount", "kind: ClusterRole|kind: RoleBinding"},
	"k3s alone": {"config: {kube: {kubelet_via: k3s, kubelet_listen: '127.0.0.1:10300'}}", "name: %-tunnel", "KUBE_ADDRESS|endPort"},
	"all of it": {`image: {digest: "sha256:` + strings.Repeat("ab", 32) + `"}
imagePullSecrets: [{name: registry}]
env: [{name: HTTPS_PROXY, value: "http://proxy:3128"}]
extraVolumes: [{name: credentials, secret: {secretName: registry}}]
extraVolumeMounts: [{name: credentials, mountPath: /etc/skerry-credentials, readOnly: true}]
service: {annotations: {a.example/b: c}, externalTrafficPolicy: Local}
persistence: {size: 100Gi, storageClassName: fast}
podDisruptionBudget: {maxUnavailable: 0}
networkPolicy: {egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}
podAnnotations: {a: b}
podLabels: {team: barn}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{operator: Exists}]
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
priorityClassName: system-cluster-critical
config:
  kube: {kubelet_ports: 100, install_crds: false}
  telemetry: {retention: 30d, retention_bytes: 100GiB, remote_write: [{url: "https://mimir.example/api/v1/push"}]}
  images: {credentials_file: /etc/skerry-credentials/config.json, registries: [{name: docker.io, mirrors: ["https://mirror.example"]}]}
`, "@sha256:abab|endPort: 10399|Ingress, Egress|storageClassName: fast|priorityClassName: system-cluster-critical", ""},
	"neither policy": {"networkPolicy: {enabled: false}\npodDisruptionBudget: {enabled: false}", "", "kind: NetworkPolicy|kind: PodDisruptionBudget"},
}

// TestTheChartIsTakenByTheAPIServer is about every combination, under two names in two namespaces that take restricted pods alone.
func TestTheChartIsTakenByTheAPIServer(t *testing.T) {
	p := cluster(t)
	h := newHelm(t, p)
	namespace(t, p, "chart-a")
	kubectl(t, p, "label", "namespace", "chart-a", "pod-security.kubernetes.io/enforce=restricted")
	for name, c := range combinations {
		for _, release := range []string{"skerry-cluster", "barn"} {
			t.Run(name+" as "+release, func(t *testing.T) {
				text, err := h.render(t, release, "chart-a", c.values)
				if err != nil {
					t.Fatal(err)
				}
				prefix := map[string]string{"skerry-cluster": "skerry", "barn": "barn"}[release]
				wantText(t, text, strings.ReplaceAll(c.has, "%", prefix), strings.ReplaceAll(c.lacks, "%", prefix))
				apply(t, p, text, "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-")
				all := objects(t, text)
				boundToItself(t, all, release, "chart-a")
				validConfiguration(t, at(all["ConfigMap "+release+" in chart-a"], "data", "cluster.yaml"), c.values)
				podOf(t, p, all["StatefulSet "+release+" in chart-a"], "")
			})
		}
	}
	// The namespace refuses what is not restricted: the pods above were held to it.
	text, err := h.render(t, "skerry-cluster", "chart-a", "{}")
	if err != nil {
		t.Fatal(err)
	}
	set := objects(t, strings.Replace(text, "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", 1))["StatefulSet skerry-cluster in chart-a"]
	podOf(t, p, set, "violates PodSecurity")
}

// wantText looks for parts, which | separates.
func wantText(t *testing.T, text, has, lacks string) {
	t.Helper()
	for want := range strings.SplitSeq(has, "|") {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in what comes out", want)
		}
	}
	for bad := range strings.SplitSeq(lacks, "|") {
		if bad != "" && strings.Contains(text, bad) {
			t.Errorf("%q is in what comes out", bad)
		}
	}
}

// podOf has the API server admit a pod of a set's template, or refuse it.
func podOf(t *testing.T, p *ControlPlane, set map[string]any, refusal string) {
	t.Helper()
	template, _ := at(set, "spec", "template").(map[string]any)
	template["apiVersion"], template["kind"] = "v1", "Pod"
	template["metadata"].(map[string]any)["name"] = fmt.Sprint(at(set, "metadata", "name"), "-0")
	spec := template["spec"].(map[string]any)
	spec["volumes"] = append(spec["volumes"].([]any), map[string]any{"name": "state", "persistentVolumeClaim": map[string]any{"claimName": "state"}})
	delete(spec, "serviceAccountName") // it was applied on a trial alone
	raw, err := json.Marshal(template)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Admin.KubectlWith(t.Context(), string(raw), "-n", "chart-a", "create", "--dry-run=server", "-f", "-")
	if refusal != "" {
		err = refusedWith(err, refusal)
	}
	if err != nil {
		t.Error(err)
	}
}

// boundToItself: every role is bound, every binding has its role, and nobody but the release's own account has any.
func boundToItself(t *testing.T, all map[string]map[string]any, release, namespace string) {
	t.Helper()
	roles := 0
	for key, o := range all {
		kind, in := fmt.Sprint(o["kind"]), at(o, "metadata", "namespace")
		if strings.HasSuffix(kind, "Role") {
			roles++
			if all[strings.Replace(key, kind, kind+"Binding", 1)] == nil {
				t.Errorf("%s is not bound", key)
			}
		}
		if !strings.HasSuffix(kind, "Binding") {
			continue
		}
		role := fmt.Sprint(at(o, "roleRef", "kind"), " ", at(o, "roleRef", "name"))
		if in != nil {
			role += fmt.Sprint(" in ", in)
		}
		subject, _ := at(o, "subjects").([]any)
		if all[role] == nil || len(subject) != 1 || at(subject[0], "name") != release || at(subject[0], "namespace") != namespace {
			t.Errorf("%s binds %s to %v", key, role, subject)
		}
	}
	if own := all["Role "+release+" in "+namespace]; roles > 0 && own == nil {
		t.Errorf("%d roles, and none in the namespace of the release", roles)
	}
	if all["ClusterRole "+release] != nil {
		rules, _ := at(all["ClusterRole "+release], "rules").([]any)
		if names := at(rules[0], "resourceNames"); !reflect.DeepEqual(names, []any{namespace}) {
			t.Errorf("it may look at the namespaces %v; wanted its own", names)
		}
	}
}

// validConfiguration has the agent's own code read it.
func validConfiguration(t *testing.T, text any, values string) configs.Cluster {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cluster.yaml")
	if err := os.WriteFile(file, []byte(fmt.Sprint(text)), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := configs.LoadCluster(configs.Source{File: file, Required: true})
	if err != nil {
		t.Errorf("%s: %v in\n%s", values, err, text)
	}
	return cfg
}

// TestChartAndBaseAreOneThing has the API server fill in what is left out, and compares what then stands there.
func TestChartAndBaseAreOneThing(t *testing.T) {
	p := cluster(t)
	h := newHelm(t, p)
	kubectl(t, p, "apply", "-f", root("install", "kube", "rbac.yaml")) // the namespace, for a trial
	base, err := p.Admin.Kubectl(t.Context(), "kustomize", root("install", "kube"))
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := h.render(t, "skerry-cluster", agentNamespace, "{}")
	if err != nil {
		t.Fatal(err)
	}
	a, b := asStored(t, p, base), asStored(t, p, rendered)
	delete(a, "Namespace mlsysops") // helm makes it by itself
	for key := range b {
		if a[key] == nil {
			t.Errorf("the chart has %s, and install/kube has not", key)
		}
	}
	for key, one := range a {
		if !reflect.DeepEqual(one, b[key]) {
			t.Errorf("%s\nin install/kube: %v\nin the chart:   %v", key, one, b[key])
		}
	}
	if len(a) < 19 {
		t.Errorf("only %d objects were compared", len(a))
	}
}

// asStored are the objects as the API server would store them, without what is each one's own.
func asStored(t *testing.T, p *ControlPlane, text string) map[string]map[string]any {
	t.Helper()
	var list struct{ Items []map[string]any }
	out := apply(t, p, text, "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-o", "json", "-f", "-")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]any{}
	for _, o := range list.Items {
		meta := o["metadata"].(map[string]any)
		name := fmt.Sprint(meta["name"])
		if o["kind"] == "ConfigMap" {
			name, _, _ = strings.Cut(name, "-cluster-") // kustomize's hash
			name = strings.TrimSuffix(name, "-cluster") + "-cluster"
			o["data"] = validConfiguration(t, at(o, "data", "cluster.yaml"), name)
		}
		if o["kind"] == "Service" {
			for _, own := range []string{"clusterIP", "clusterIPs", "healthCheckNodePort"} {
				delete(o["spec"].(map[string]any), own)
			}
			for _, port := range at(o, "spec", "ports").([]any) {
				delete(port.(map[string]any), "nodePort")
			}
		}
		if o["kind"] == "StatefulSet" {
			template := at(o, "spec", "template").(map[string]any)
			delete(template["metadata"].(map[string]any), "annotations")
			for _, v := range at(template, "spec", "volumes").([]any) {
				if c := at(v, "configMap"); c != nil {
					c.(map[string]any)["name"] = "skerry-cluster"
				}
			}
		}
		key := fmt.Sprint(o["kind"], " ", name)
		if ns := meta["namespace"]; ns != nil {
			key += fmt.Sprint(" in ", ns)
		}
		delete(o, "metadata")
		delete(o, "status")
		all[key] = o
	}
	return all
}

// TestThePodOfTheChartRunsTheShippedAgent installs the chart into a restricted namespace, takes the pod that the controller makes of it, and
// runs the shipped program as that pod says: its user, nothing but its volumes to write to, its environment and the token of its
// account. A device then comes online and is seen with kubectl.
func TestThePodOfTheChartRunsTheShippedAgent(t *testing.T) {
	p := Start(t, Options{K3s: true})
	h := newHelm(t, p)
	program, err := system.Program("skerry-cluster")
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, p, "create", "namespace", agentNamespace)
	kubectl(t, p, "label", "namespace", agentNamespace, "pod-security.kubernetes.io/enforce=restricted")
	mqtt, https := freeport.Addr(t), freeport.Addr(t)
	values := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(values, []byte(fmt.Sprintf("config: {cluster: barn, advertise: [127.0.0.1], mqtt: {listen: %q}, http: {listen: %q}, kube: {kubelet_listen: '127.0.0.1:20300'}}",
		mqtt, https)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := h.run(t, "install", "skerry-cluster", chart(), "--namespace", agentNamespace, "--values", values)
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, out, "exec skerry-cluster-0 -- /skerry-cluster admin", "DEVICES CANNOT CONNECT")
	text := ""
	eventually(t, time.Minute, "the controller makes the pod", func() (err error) {
		text, err = p.Admin.Kubectl(t.Context(), "-n", agentNamespace, "get", "pod", "skerry-cluster-0", "-o", "json")
		return err
	})

	s := &site{t: t, dir: t.TempDir(), plane: p}
	spec := readPod(t, text)
	c := newContainer(t, spec, program, map[string]string{"config": s.configVolume(), "state": s.stateVolume(spec)}, s.accountVolume())
	host, port, _ := strings.Cut(strings.TrimPrefix(p.URL(), "https://"), ":")
	// What kubelet adds: where the API server is, and with enableServiceLinks what would be taken for settings.
	env := []string{"KUBERNETES_SERVICE_HOST=" + host, "KUBERNETES_SERVICE_PORT=" + port}
	if o := object(t, text); at(o, "spec", "enableServiceLinks") != false {
		env = append(env, "SKERRY_CLUSTER_PORT=tcp://10.43.0.7:8883", "SKERRY_CLUSTER_SERVICE_HOST=10.43.0.7")
	}
	c.start("/skerry-cluster", env...)
	s.learn()
	s.stand("leading")
	told, err := c.exec("/skerry-cluster", "admin")
	if own, _ := os.ReadFile(filepath.Join(s.dir, "cluster", "admin.yaml")); err != nil || told != string(own) || told == "" {
		t.Errorf("skerry-cluster admin: %v, %q", err, told)
	}
	s.node("chart-a", "workloads.enabled=false")
	s.becomes("mlsysopsnode", "chart-a", online, "True")

	if out, err := h.run(t, "uninstall", "skerry-cluster", "--namespace", agentNamespace); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	left := kubectl(t, p, "get", "clusterroles,clusterrolebindings", "-o", "name")
	if strings.Contains(left, "skerry") {
		t.Errorf("after helm uninstall there is\n%s", left)
	}
}

// TestTheBaseIsAppliedByKubectlAlone: kubectl apply -k, twice, and the pod is there.
func TestTheBaseIsAppliedByKubectlAlone(t *testing.T) {
	p := Start(t, Options{})
	generations := func() string {
		t.Helper()
		kubectl(t, p, "apply", "-k", root("install", "kube"))
		return kubectl(t, p, "-n", agentNamespace, "get", "statefulsets,services,poddisruptionbudgets,networkpolicies,configmaps,roles",
			"-o", "jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.generation}{\"\\n\"}{end}")
	}
	first := generations()
	if again := generations(); again != first || !strings.Contains(first, "StatefulSet skerry-cluster 1\n") {
		t.Errorf("applied twice there is\n%s\nand after the first time there was\n%s", again, first)
	}
	eventually(t, time.Minute, "the controller makes the pod", func() error {
		_, err := p.Admin.Kubectl(t.Context(), "-n", agentNamespace, "get", "pod", "skerry-cluster-0")
		return err
	})
}

// configVolume is the ConfigMap as a kubelet lays it out, as far as the agent looks.
func (s *site) configVolume() string {
	s.t.Helper()
	dir := filepath.Join(s.dir, "config")
	if err := os.Mkdir(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	text := kubectl(s.t, s.plane, "-n", agentNamespace, "get", "configmap", "skerry-cluster", "-o", `jsonpath={.data.cluster\.yaml}`)
	if err := os.WriteFile(filepath.Join(dir, "cluster.yaml"), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// stateVolume is an empty one as a kubelet hands it over: root's, writable for the group of the pod, with what mkfs leaves behind.
func (s *site) stateVolume(p pod) string {
	s.t.Helper()
	dir := filepath.Join(s.dir, "cluster")
	if err := os.MkdirAll(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chown(dir, 0, int(p.Spec.SecurityContext.FSGroup)); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o2775); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// accountVolume has a token and the CA of the API server.
func (s *site) accountVolume() string {
	s.t.Helper()
	dir := filepath.Join(s.dir, "account")
	if err := os.Mkdir(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	token := kubectl(s.t, s.plane, "-n", agentNamespace, "create", "token", "skerry-cluster", "--duration=2h")
	ca, err := os.ReadFile(s.plane.papers.servers.file)
	if err != nil {
		s.t.Fatal(err)
	}
	for name, content := range map[string]string{"token": strings.TrimSpace(token), "ca.crt": string(ca), "namespace": agentNamespace} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	return dir
}
