package bridge

import (
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-edge/skerry/api"
)

// shelf holds what pods of these tests refer to.
type shelf struct {
	maps    map[string]*corev1.ConfigMap
	secrets map[string]*corev1.Secret
	err     error
}

func (s shelf) ConfigMap(_, name string) (*corev1.ConfigMap, error) { return s.maps[name], s.err }
func (s shelf) Secret(_, name string) (*corev1.Secret, error)       { return s.secrets[name], s.err }

func aShelf() shelf {
	return shelf{
		maps:    map[string]*corev1.ConfigMap{"conf": {Data: map[string]string{"level": "debug", "a.txt": "text"}, BinaryData: map[string][]byte{"bin": {0, 1}}}},
		secrets: map[string]*corev1.Secret{"pass": {Data: map[string][]byte{"word": []byte("hush"), "user": []byte("me")}}},
	}
}

func aPod(change func(*corev1.Pod)) *corev1.Pod {
	grace := int64(5)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-0", UID: "0b3c0b3c-0000-4000-8000-000000000001",
		Labels: map[string]string{"app": "web", "tier": "a"}}, Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways, HostNetwork: true,
		DNSPolicy: corev1.DNSDefault, TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{{Name: "main", Image: "busybox:1.36"}}}}
	if change != nil {
		change(p)
	}
	return p
}

func translate(t *testing.T, p *corev1.Pod) *Workload {
	t.Helper()
	return translateTo(t, Target{Node: "edge-1", Capacity: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}}, p)
}

func translateTo(t *testing.T, to Target, p *corev1.Pod) *Workload {
	t.Helper()
	w, err := FromPod(p, aShelf(), to)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAPodBecomesAWorkloadOfItsUID(t *testing.T) {
	w := translate(t, aPod(nil))
	if w.Name != "0b3c0b3c-0000-4000-8000-000000000001" || w.Pod.Name != "web-0" || w.GraceSeconds != 5 || w.Restart != api.RestartAlways || len(w.Notices) != 0 {
		t.Errorf("%+v, notices %v", w.Workload, w.Notices)
	}
	if err := w.Validate(); err != nil {
		t.Error(err)
	}
}

func TestTheEnvironmentIsThatOfAKubeletAndWhatWasReferredToIsSealed(t *testing.T) {
	w := translate(t, aPod(func(p *corev1.Pod) {
		c := &p.Spec.Containers[0]
		c.EnvFrom = []corev1.EnvFromSource{{Prefix: "C_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}}}}
		c.Env = []corev1.EnvVar{
			{Name: "PLAIN", Value: "a$$b $(MISSING) $(PLAIN"},
			{Name: "TWICE", Value: "$(PLAIN)!"},
			{Name: "WORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "pass"}, Key: "word"}}},
			{Name: "URL", Value: "http://$(WORD)@x"},
			{Name: "NODE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}},
			{Name: "APP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['app']"}}},
			{Name: "CPUS", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
		}
	}))
	// The node expands once more, so that a dollar that is meant is two.
	plain := []api.EnvVar{{Name: "PLAIN", Value: "a$$b $$(MISSING) $$(PLAIN"}, {Name: "TWICE", Value: "a$$b $$(MISSING) $$(PLAIN!"}, {Name: "NODE", Value: "edge-1"},
		{Name: "APP", Value: "web"}, {Name: "CPUS", Value: "4"}}
	if got := w.Containers[0].Env; !slices.Equal(got, plain) {
		t.Errorf("plain: %v", got)
	}
	sealed := []api.EnvVar{{Name: "C_a.txt", Value: "text"}, {Name: "C_level", Value: "debug"}, {Name: "WORD", Value: "hush"}, {Name: "URL", Value: "http://hush@x"}}
	if got := w.Secrets.Env["main"]; !slices.Equal(got, sealed) {
		t.Errorf("sealed: %v", got)
	}
}

// TestAVariableStaysWhereItIsWhenAnOptionalSourceGoes: a container that runs does not notice that, so neither may its workload.
func TestAVariableStaysWhereItIsWhenAnOptionalSourceGoes(t *testing.T) {
	optional := true
	for name, c := range map[string]corev1.Container{
		"envFrom of a ConfigMap": {EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Optional: &optional}}}},
		"envFrom of a Secret": {EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Optional: &optional}}}},
		"a key of a ConfigMap": {Env: []corev1.EnvVar{{Name: "level", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Key: "level", Optional: &optional}}}}},
		"a key of a Secret": {Env: []corev1.EnvVar{{Name: "level", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Key: "level", Optional: &optional}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := aPod(func(p *corev1.Pod) {
				p.Spec.Containers[0].EnvFrom = c.EnvFrom
				p.Spec.Containers[0].Env = append(c.Env, corev1.EnvVar{Name: "FLAG", Value: "--v=$(level)"}, corev1.EnvVar{Name: "PLAIN", Value: "x"})
			})
			there := aShelf()
			there.secrets["conf"] = &corev1.Secret{Data: map[string][]byte{"level": []byte("debug")}}
			gone := shelf{}
			for value, s := range map[string]shelf{"--v=debug": there, "--v=$(level)": gone} {
				w, err := FromPod(pod, s, Target{Node: "edge-1"})
				if err != nil {
					t.Fatal(err)
				}
				if got := w.Containers[0].Env; !slices.Equal(got, []api.EnvVar{{Name: "PLAIN", Value: "x"}}) {
					t.Errorf("plain: %v", got)
				}
				if got := w.Secrets.Env["main"]; !slices.Contains(got, api.EnvVar{Name: "FLAG", Value: value}) {
					t.Errorf("sealed: %v; wanted FLAG=%s among them", got, value)
				}
			}
		})
	}
}

func TestFilesOfConfigMapsSecretsAndThePodItselfAreSealed(t *testing.T) {
	w := translate(t, aPod(func(p *corev1.Pod) {
		mode, optional := int32(0o400), true
		p.Spec.Volumes = []corev1.Volume{
			{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "pass", DefaultMode: &mode}}},
			{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Items: []corev1.KeyToPath{{Key: "bin", Path: "x/bin"}}}},
				{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "gone"}, Optional: &optional}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}},
			}}}},
			{Name: "kube-api-access-x", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}}}}},
		}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "s", MountPath: "/s", ReadOnly: true}, {Name: "all", MountPath: "/all"},
			{Name: "kube-api-access-x", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}}
	}))
	if f := w.Secrets.Files["s"]; len(f) != 2 || f[1].Path != "word" || string(f[1].Data) != "hush" || f[1].Mode != 0o400 {
		t.Errorf("secret: %v", f)
	}
	if f := w.Secrets.Files["all"]; len(f) != 2 || f[0].Path != "labels" || string(f[0].Data) != "app=\"web\"\ntier=\"a\"" || f[1].Path != "x/bin" {
		t.Errorf("projected: %v", f)
	}
	for _, v := range w.Volumes {
		if v.Files != nil && len(v.Files.Files) > 0 {
			t.Errorf("volume %s shows %v outside of what is sealed", v.Name, v.Files.Files)
		}
	}
	if len(w.Volumes) != 2 || len(w.Containers[0].Mounts) != 2 {
		t.Errorf("%d volumes, %d mounts: wanted none of the token's", len(w.Volumes), len(w.Containers[0].Mounts))
	}
	if !slices.ContainsFunc(w.Notices, func(c corev1.PodCondition) bool { return c.Type == ConditionToken }) {
		t.Errorf("no word of the token: %v", w.Notices)
	}
}

func TestWhatIsMissingIsNamedAllAtOnce(t *testing.T) {
	_, err := FromPod(aPod(func(p *corev1.Pod) {
		p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "nope"}}}}
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Key: "nokey"}}}}
	}), aShelf(), Target{Node: "edge-1"})
	missing, ok := errors.AsType[*Missing](err)
	if !ok || len(missing.What) != 2 || !strings.Contains(err.Error(), `secret "nope" not found`) || !strings.Contains(err.Error(), "nokey") {
		t.Errorf("%v", err)
	}
	if _, err := FromPod(aPod(func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "c", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}}}}}
	}), shelf{err: errors.New("no answer")}, Target{}); err == nil || errors.As(err, &missing) {
		t.Errorf("a failed look-up: %v; wanted an error that passes", err)
	}
}

// TestNothingIsPassedOverSilently gives, one by one, what a device cannot do.
func TestNothingIsPassedOverSilently(t *testing.T) {
	yes, grace := true, int64(3)
	host := "h"
	for want, change := range map[string]func(*corev1.Pod){
		"set hostNetwork: true": func(p *corev1.Pod) { p.Spec.HostNetwork = false },
		"hostPID":               func(p *corev1.Pod) { p.Spec.HostPID = true },
		"shareProcessNamespace": func(p *corev1.Pod) { p.Spec.ShareProcessNamespace = &yes },
		"hostAliases":           func(p *corev1.Pod) { p.Spec.HostAliases = []corev1.HostAlias{{IP: "1.2.3.4"}} },
		"sysctls": func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "a"}}}
		},
		"fsGroup": func(p *corev1.Pod) { p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &grace} },
		"grpc": func(p *corev1.Pod) {
			p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{}}}
		},
		"hostPort 80": func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080, HostPort: 80}}
		},
		"volumeDevices": func(p *corev1.Pod) { p.Spec.Containers[0].VolumeDevices = []corev1.VolumeDevice{{Name: "d"}} },
		"wanted emptyDir": func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: host}}}}
		},
		"subPathExpr": func(p *corev1.Pod) {
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v", SubPathExpr: "$(A)"}}
		},
		"sidecars": func(p *corev1.Pod) {
			a := corev1.ContainerRestartPolicyAlways
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", RestartPolicy: &a}}
		},
		"runtime \"vm\"": func(p *corev1.Pod) { p.Annotations = map[string]string{RuntimeKey: "vm"} },
		"port \"http\"": func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("http")}}}
		},
		"hugepages": func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"hugepages-2Mi": resource.MustParse("2Mi")}
		},
		"status.podIP": func(p *corev1.Pod) {
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}}}
		},
	} {
		_, err := FromPod(aPod(change), aShelf(), Target{Node: "edge-1"})
		if _, ok := errors.AsType[*Unsupported](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	w := translateTo(t, Target{Node: "edge-1", HostNetworkImplied: true}, aPod(func(p *corev1.Pod) {
		p.Spec.HostNetwork, p.Spec.DNSPolicy = false, corev1.DNSClusterFirst
		p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "x"}}
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"sensor.mlsysops.eu/camera": resource.MustParse("1"), "cpu": resource.MustParse("250m"), "memory": resource.MustParse("64Mi")}
	}))
	var kinds []string
	for _, n := range w.Notices {
		kinds = append(kinds, string(n.Type))
		if n.Type == ConditionNative && (!strings.Contains(n.Message, "imagePullSecrets") || !strings.Contains(n.Message, "resolved")) {
			t.Errorf("notice: %s", n.Message)
		}
	}
	if !slices.Equal(kinds, []string{ConditionNetwork, ConditionNative}) {
		t.Errorf("notices %v", kinds)
	}
	if l := w.Containers[0].Limits; l.CPUMillis != 250 || l.MemoryBytes != 64<<20 {
		t.Errorf("limits %+v", l)
	}
}

func TestChecksHaveAKubeletsDefaultsAndNamedPorts(t *testing.T) {
	w := translate(t, aPod(func(p *corev1.Pod) {
		c := &p.Spec.Containers[0]
		c.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}
		c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/x", Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTPS,
			HTTPHeaders: []corev1.HTTPHeader{{Name: "A", Value: "b"}}}}}
		c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sync"}}}}
	}))
	l := w.Containers[0].Liveness
	if l.HTTP.Port != 8080 || l.HTTP.Scheme != "https" || l.HTTP.Headers[0] != "A: b" || l.PeriodSeconds != 10 || l.TimeoutSeconds != 1 || l.Successes != 1 || l.Failures != 3 {
		t.Errorf("%+v %+v", l, l.HTTP)
	}
	if w.Containers[0].PreStop.Exec[0] != "sync" {
		t.Errorf("%+v", w.Containers[0].PreStop)
	}
}

func TestTheContainersWordOnItsConfinementCountsFirst(t *testing.T) {
	pod, own, yes := int64(7), int64(8), true
	w := translate(t, aPod(func(p *corev1.Pod) {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &pod, RunAsGroup: &pod, RunAsNonRoot: &yes}
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsUser: &own, ReadOnlyRootFilesystem: &yes,
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"CAP_NET_RAW"}}}
	}))
	s := w.Containers[0].Security
	if *s.User != 8 || *s.Group != 7 || !s.NonRoot || !s.ReadOnlyRoot || s.Add[0] != "NET_RAW" || s.Drop[0] != "ALL" {
		t.Errorf("%+v", s)
	}
}
