package bridge

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// carried are the fields that a device carries out, by their type: without any one of them another workload comes of fullPod. What they
// hold is walked too.
var carried = map[string]string{
	"PodSpec": "Volumes InitContainers Containers RestartPolicy TerminationGracePeriodSeconds ActiveDeadlineSeconds ServiceAccountName HostNetwork " +
		"SecurityContext Hostname RuntimeClassName",
	"Container": "Name Image Command Args WorkingDir Ports EnvFrom Env Resources VolumeMounts LivenessProbe ReadinessProbe StartupProbe Lifecycle " +
		"TerminationMessagePath TerminationMessagePolicy ImagePullPolicy SecurityContext Stdin TTY",
	"ContainerPort":           "Name ContainerPort Protocol",
	"EnvFromSource":           "Prefix ConfigMapRef SecretRef",
	"ConfigMapEnvSource":      "Optional",
	"SecretEnvSource":         "Optional",
	"EnvVar":                  "Name Value ValueFrom",
	"EnvVarSource":            "FieldRef ResourceFieldRef ConfigMapKeyRef SecretKeyRef",
	"ObjectFieldSelector":     "FieldPath",
	"ResourceFieldSelector":   "ContainerName Resource Divisor",
	"ConfigMapKeySelector":    "Key Optional",
	"SecretKeySelector":       "Key Optional",
	"LocalObjectReference":    "Name",
	"ResourceRequirements":    "Limits Requests",
	"VolumeMount":             "Name ReadOnly MountPath SubPath",
	"Probe":                   "InitialDelaySeconds TimeoutSeconds PeriodSeconds SuccessThreshold FailureThreshold",
	"ProbeHandler":            "Exec HTTPGet TCPSocket",
	"ExecAction":              "Command",
	"HTTPGetAction":           "Path Port Host Scheme HTTPHeaders",
	"HTTPHeader":              "Name Value",
	"TCPSocketAction":         "Port Host",
	"Lifecycle":               "PostStart PreStop",
	"LifecycleHandler":        "Exec HTTPGet TCPSocket",
	"SecurityContext":         "Capabilities Privileged RunAsUser RunAsGroup RunAsNonRoot ReadOnlyRootFilesystem",
	"Capabilities":            "Add Drop",
	"PodSecurityContext":      "RunAsUser RunAsGroup RunAsNonRoot SupplementalGroups",
	"Volume":                  "Name",
	"VolumeSource":            "HostPath EmptyDir Secret DownwardAPI ConfigMap Projected",
	"HostPathVolumeSource":    "Path Type",
	"EmptyDirVolumeSource":    "Medium SizeLimit",
	"ConfigMapVolumeSource":   "Items DefaultMode Optional",
	"SecretVolumeSource":      "SecretName Items DefaultMode Optional",
	"DownwardAPIVolumeSource": "Items DefaultMode",
	"ProjectedVolumeSource":   "Sources DefaultMode",
	"VolumeProjection":        "Secret DownwardAPI ConfigMap",
	"ConfigMapProjection":     "Items Optional",
	"SecretProjection":        "Items Optional",
	"DownwardAPIProjection":   "Items",
	"KeyToPath":               "Key Path Mode",
	"DownwardAPIVolumeFile":   "Path FieldRef ResourceFieldRef Mode",
}

// of is a field with a pod that sets it, and the word that the condition or the refusal has.
type of struct {
	field, word string
	set         func(p *corev1.Pod, c *corev1.Container)
}

var told = []of{
	{"PodSpec.EphemeralContainers", "ephemeralContainers", func(p *corev1.Pod, _ *corev1.Container) {
		p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{}}
	}},
	{"PodSpec.DNSPolicy", "dnsPolicy", func(p *corev1.Pod, _ *corev1.Container) { p.Spec.DNSPolicy = corev1.DNSClusterFirstWithHostNet }},
	{"PodSpec.ImagePullSecrets", "imagePullSecrets", func(p *corev1.Pod, _ *corev1.Container) {
		p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "x"}}
	}},
	{"Container.ResizePolicy", "resizePolicy", func(_ *corev1.Pod, c *corev1.Container) { c.ResizePolicy = []corev1.ContainerResizePolicy{{}} }},
	{"SecurityContext.AllowPrivilegeEscalation", "allowPrivilegeEscalation", func(_ *corev1.Pod, c *corev1.Container) {
		c.SecurityContext = &corev1.SecurityContext{AllowPrivilegeEscalation: new(true)}
	}},
	{"SecurityContext.SeccompProfile", "Unconfined", func(_ *corev1.Pod, c *corev1.Container) {
		c.SecurityContext = &corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}}
	}},
	{"SecurityContext.AppArmorProfile", "AppArmor", func(_ *corev1.Pod, c *corev1.Container) {
		c.SecurityContext = &corev1.SecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}}
	}},
	{"PodSecurityContext.SeccompProfile", "Unconfined", func(p *corev1.Pod, _ *corev1.Container) {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}}
	}},
	{"PodSecurityContext.AppArmorProfile", "AppArmor", func(p *corev1.Pod, _ *corev1.Container) {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}}
	}},
}

func volume(s corev1.VolumeSource) func(*corev1.Pod, *corev1.Container) {
	return func(p *corev1.Pod, _ *corev1.Container) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: s}}
	}
}

func mount(m corev1.VolumeMount) func(*corev1.Pod, *corev1.Container) {
	m.Name, m.MountPath = "v", "/v"
	return func(p *corev1.Pod, c *corev1.Container) {
		volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})(p, c)
		c.VolumeMounts = []corev1.VolumeMount{m}
	}
}

func port(n corev1.ContainerPort) func(*corev1.Pod, *corev1.Container) {
	n.ContainerPort = 8080
	return func(_ *corev1.Pod, c *corev1.Container) { c.Ports = []corev1.ContainerPort{n} }
}

func check(k corev1.Probe) func(*corev1.Pod, *corev1.Container) {
	return func(_ *corev1.Pod, c *corev1.Container) { c.LivenessProbe = &k }
}

func podSecurity(s corev1.PodSecurityContext) func(*corev1.Pod, *corev1.Container) {
	return func(p *corev1.Pod, _ *corev1.Container) { p.Spec.SecurityContext = &s }
}

func security(s corev1.SecurityContext) func(*corev1.Pod, *corev1.Container) {
	return func(_ *corev1.Pod, c *corev1.Container) { c.SecurityContext = &s }
}

var confItems = []corev1.KeyToPath{{Key: "level", Path: "level", User: new(int64(7))}}

var refused = []of{
	{"PodSpec.HostPID", "hostPID", func(p *corev1.Pod, _ *corev1.Container) { p.Spec.HostPID = true }},
	{"PodSpec.HostIPC", "hostIPC", func(p *corev1.Pod, _ *corev1.Container) { p.Spec.HostIPC = true }},
	{"PodSpec.HostUsers", "hostUsers", func(p *corev1.Pod, _ *corev1.Container) { p.Spec.HostUsers = new(false) }},
	{"PodSpec.ShareProcessNamespace", "shareProcessNamespace", func(p *corev1.Pod, _ *corev1.Container) { p.Spec.ShareProcessNamespace = new(true) }},
	{"PodSpec.ResourceClaims", "resourceClaims", func(p *corev1.Pod, _ *corev1.Container) {
		p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "c"}}
	}},
	{"PodSpec.HostAliases", "hostAliases", func(p *corev1.Pod, _ *corev1.Container) { p.Spec.HostAliases = []corev1.HostAlias{{IP: "1.2.3.4"}} }},
	{"PodSpec.DNSConfig", "dnsConfig", func(p *corev1.Pod, _ *corev1.Container) {
		p.Spec.DNSConfig = &corev1.PodDNSConfig{Searches: []string{"x"}}
	}},
	{"PodSpec.SetHostnameAsFQDN", "setHostnameAsFQDN", func(p *corev1.Pod, _ *corev1.Container) { p.Spec.SetHostnameAsFQDN = new(true) }},
	{"PodSpec.HostnameOverride", "hostnameOverride", func(p *corev1.Pod, _ *corev1.Container) { p.Spec.HostnameOverride = new("x") }},
	{"PodSpec.Subdomain", "subdomain", func(p *corev1.Pod, _ *corev1.Container) { p.Spec.Subdomain = "x" }},
	{"PodSpec.Resources", "resources of the pod", func(p *corev1.Pod, _ *corev1.Container) {
		p.Spec.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}
	}},
	{"PodSpec.OS", "linux", func(p *corev1.Pod, _ *corev1.Container) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }},
	{"PodSecurityContext.SELinuxOptions", "seLinuxOptions", podSecurity(corev1.PodSecurityContext{SELinuxOptions: &corev1.SELinuxOptions{}})},
	{"PodSecurityContext.WindowsOptions", "windowsOptions", podSecurity(corev1.PodSecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{}})},
	{"PodSecurityContext.Sysctls", "sysctls", podSecurity(corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "a"}}})},
	{"PodSecurityContext.FSGroup", "fsGroup", podSecurity(corev1.PodSecurityContext{FSGroup: new(int64(3))})},
	{"PodSecurityContext.SupplementalGroupsPolicy", "Strict", podSecurity(corev1.PodSecurityContext{SupplementalGroupsPolicy: new(corev1.SupplementalGroupsPolicyStrict)})},
	{"PodSecurityContext.SeccompProfile", "Localhost", podSecurity(corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost}})},
	{"PodSecurityContext.AppArmorProfile", "Localhost", podSecurity(corev1.PodSecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost}})},
	{"SecurityContext.SELinuxOptions", "SELinux", security(corev1.SecurityContext{SELinuxOptions: &corev1.SELinuxOptions{}})},
	{"SecurityContext.WindowsOptions", "Windows", security(corev1.SecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{}})},
	{"SecurityContext.ProcMount", "procMount", security(corev1.SecurityContext{ProcMount: new(corev1.UnmaskedProcMount)})},
	{"SecurityContext.SeccompProfile", "Localhost", security(corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost}})},
	{"SecurityContext.AppArmorProfile", "Localhost", security(corev1.SecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost}})},
	{"Container.RestartPolicyRules", "restartPolicyRules", func(_ *corev1.Pod, c *corev1.Container) {
		c.RestartPolicyRules = []corev1.ContainerRestartRule{{}}
	}},
	{"Container.RestartPolicy", "restartPolicy Never", func(_ *corev1.Pod, c *corev1.Container) { c.RestartPolicy = new(corev1.ContainerRestartPolicyNever) }},
	{"Container.RestartPolicy", "sidecars", func(p *corev1.Pod, _ *corev1.Container) {
		p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
	}},
	{"Container.VolumeDevices", "volumeDevices", func(_ *corev1.Pod, c *corev1.Container) { c.VolumeDevices = []corev1.VolumeDevice{{Name: "d"}} }},
	{"Container.StdinOnce", "stdinOnce", func(_ *corev1.Pod, c *corev1.Container) { c.StdinOnce = true }},
	{"ContainerPort.HostPort", "hostPort 80", port(corev1.ContainerPort{HostPort: 80})},
	{"ContainerPort.HostIP", "hostIP", port(corev1.ContainerPort{HostIP: "1.2.3.4"})},
	{"ContainerPort.Protocol", "SCTP", port(corev1.ContainerPort{Protocol: corev1.ProtocolSCTP})},
	{"EnvVarSource.FileKeyRef", "fileKeyRef", func(_ *corev1.Pod, c *corev1.Container) {
		c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{}}}}
	}},
	{"VolumeMount.SubPathExpr", "subPathExpr", mount(corev1.VolumeMount{SubPathExpr: "$(A)"})},
	{"VolumeMount.MountPropagation", "mountPropagation", mount(corev1.VolumeMount{MountPropagation: new(corev1.MountPropagationBidirectional)})},
	{"VolumeMount.RecursiveReadOnly", "recursiveReadOnly", mount(corev1.VolumeMount{RecursiveReadOnly: new(corev1.RecursiveReadOnlyEnabled)})},
	{"VolumeMount.BindMountOptions", "bindMountOptions", mount(corev1.VolumeMount{BindMountOptions: []string{"noexec"}})},
	{"Probe.TerminationGracePeriodSeconds", "terminationGracePeriodSeconds", check(corev1.Probe{TerminationGracePeriodSeconds: new(int64(3)),
		ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}})},
	{"ProbeHandler.GRPC", "grpc", check(corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{}}})},
	{"HTTPGetAction.Protocol", "protocol", check(corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(80),
		Protocol: new(corev1.HTTPProtocolHTTP2)}}})},
	{"Lifecycle.StopSignal", "stopSignal", func(_ *corev1.Pod, c *corev1.Container) {
		c.Lifecycle = &corev1.Lifecycle{StopSignal: new(corev1.SIGUSR1)}
	}},
	{"LifecycleHandler.Sleep", "sleep", func(_ *corev1.Pod, c *corev1.Container) {
		c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}}}
	}},
	{"EmptyDirVolumeSource.Mode", "mode", volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Mode: new(int32(0o700))}})},
	{"KeyToPath.User", "user 7", volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Items: confItems}})},
	{"DownwardAPIVolumeFile.User", "user 7", volume(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
		Items: []corev1.DownwardAPIVolumeFile{{Path: "n", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}, User: new(int64(7))}}}})},
	{"ConfigMapVolumeSource.DefaultUser", "user 7", volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{DefaultUser: new(int64(7)),
		LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}}})},
	{"SecretVolumeSource.DefaultUser", "user 7", volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "pass", DefaultUser: new(int64(7))}})},
	{"DownwardAPIVolumeSource.DefaultUser", "user 7", volume(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{DefaultUser: new(int64(7))}})},
	{"ProjectedVolumeSource.DefaultUser", "user 7", volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultUser: new(int64(7))}})},
	{"VolumeProjection.ServiceAccountToken", "serviceAccountToken", volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}}}})},
	{"VolumeProjection.ClusterTrustBundle", "clusterTrustBundle", volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{}}}}})},
	{"VolumeProjection.PodCertificate", "podCertificate", volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{}}}}})},
}

// meaningless are the fields that want nothing of a device, with the reason.
var meaningless = map[string]string{
	"PodSpec.AutomountServiceAccountToken":   "the API server adds a volume for it, and the volume is told of",
	"PodSpec.DeprecatedServiceAccount":       "another name of serviceAccountName",
	"PodSpec.NodeSelector":                   "the scheduler's",
	"PodSpec.NodeName":                       "how the pod came here",
	"PodSpec.Affinity":                       "the scheduler's",
	"PodSpec.SchedulerName":                  "the scheduler's",
	"PodSpec.Tolerations":                    "the scheduler's and the eviction's; see Tolerations",
	"PodSpec.PriorityClassName":              "the scheduler's",
	"PodSpec.Priority":                       "the scheduler's; a device evicts none for another",
	"PodSpec.PreemptionPolicy":               "the scheduler's",
	"PodSpec.ReadinessGates":                 "not the device's; see PodStatus",
	"PodSpec.EnableServiceLinks":             "a device does not reach Services; docs/k3s.md",
	"PodSpec.Overhead":                       "a RuntimeClass's, for the scheduler; ours have none",
	"PodSpec.TopologySpreadConstraints":      "the scheduler's",
	"PodSpec.SchedulingGates":                "the scheduler's",
	"PodSpec.SchedulingGroup":                "the scheduler's",
	"PodSpec.EvictionResponders":             "the eviction's, which deletes the pod",
	"PodSecurityContext.FSGroupChangePolicy": "of fsGroup, which is refused",
	"PodSecurityContext.SELinuxChangePolicy": "of seLinuxOptions, which are refused",
	"ResourceRequirements.Claims":            "they name those of the pod, which are refused",
	"ObjectFieldSelector.APIVersion":         "there is v1 alone",
}

// fullPod uses every field that is carried out.
func fullPod() *corev1.Pod {
	yes, no, mode := true, false, int32(0o400)
	is := func(n int64) *int64 { return &n }
	named := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	action := func(path string) *corev1.HTTPGetAction {
		return &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(80), Host: "h", Scheme: corev1.URISchemeHTTPS, HTTPHeaders: []corev1.HTTPHeader{{Name: "A", Value: "b"}}}
	}
	fields := []corev1.DownwardAPIVolumeFile{{Path: "n", Mode: new(int32(0o600)), FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}},
		{Path: "c", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "main", Resource: "limits.cpu", Divisor: resource.MustParse("1m")}}}
	conf, pass := []corev1.KeyToPath{{Key: "level", Path: "l", Mode: new(int32(0o600))}, {Key: "none", Path: "n"}}, []corev1.KeyToPath{{Key: "word", Path: "w"}, {Key: "none", Path: "n"}}
	return aPod(func(p *corev1.Pod) {
		s := &p.Spec
		s.RestartPolicy, s.ActiveDeadlineSeconds, s.ServiceAccountName, s.Hostname, s.RuntimeClassName = corev1.RestartPolicyNever, is(60), "me", "host", new("skerry-process")
		s.SecurityContext = &corev1.PodSecurityContext{RunAsUser: is(7), RunAsGroup: is(7), RunAsNonRoot: &yes, SupplementalGroups: []int64{9}}
		s.InitContainers = []corev1.Container{{Name: "first", Image: "i"}}
		s.Volumes = []corev1.Volume{
			{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data", Type: new(corev1.HostPathDirectory)}}},
			{Name: "empty", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: new(resource.MustParse("1Mi"))}}},
			{Name: "conf", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: named("conf"), Items: conf, DefaultMode: &mode, Optional: &yes}}},
			{Name: "confs", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: named("conf"), DefaultMode: &mode}}},
			{Name: "pass", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "pass", Items: pass, DefaultMode: &mode, Optional: &yes}}},
			{Name: "pod", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: fields, DefaultMode: &mode}}},
			{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: &mode, Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: named("conf"), Items: conf, Optional: &yes}},
				{Secret: &corev1.SecretProjection{LocalObjectReference: named("pass"), Items: pass, Optional: &yes}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: fields}}}}}},
		}
		other := corev1.Container{Name: "other", Image: "o", LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"a"}}}},
			Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(80), Host: "h"}}}}
		main := corev1.Container{Name: "main", Image: "busybox", Command: []string{"a"}, Args: []string{"b"}, WorkingDir: "/w", Stdin: true, TTY: true,
			TerminationMessagePath: "/said", TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError, ImagePullPolicy: corev1.PullAlways,
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80, Protocol: corev1.ProtocolUDP}},
			EnvFrom: []corev1.EnvFromSource{{Prefix: "C_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: named("conf")}},
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: named("gone"), Optional: &yes}}, {SecretRef: &corev1.SecretEnvSource{LocalObjectReference: named("pass")}},
				{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: named("gone"), Optional: &yes}}},
			Env: []corev1.EnvVar{{Name: "PLAIN", Value: "x"}, {Name: "SA", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.serviceAccountName"}}},
				{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu", Divisor: resource.MustParse("1m"), ContainerName: "other"}}},
				{Name: "CONF", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: named("conf"), Key: "none", Optional: &yes}}},
				{Name: "PASS", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: named("pass"), Key: "none", Optional: &yes}}},
				{Name: "WORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: named("pass"), Key: "word"}}},
				{Name: "LEVEL", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: named("conf"), Key: "level"}}}},
			Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}},
			VolumeMounts: []corev1.VolumeMount{{Name: "host", MountPath: "/h", ReadOnly: true, SubPath: "sub"}},
			LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: action("/l")}, InitialDelaySeconds: 3, TimeoutSeconds: 3, PeriodSeconds: 7, SuccessThreshold: 2,
				FailureThreshold: 5},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(80), Host: "h"}}},
			StartupProbe:   &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"s"}}}},
			Lifecycle: &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"p"}}},
				PreStop: &corev1.LifecycleHandler{HTTPGet: action("/s")}},
			SecurityContext: &corev1.SecurityContext{Privileged: &yes, RunAsUser: is(8), RunAsGroup: is(8), RunAsNonRoot: &no, ReadOnlyRootFilesystem: &yes,
				Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_RAW"}, Drop: []corev1.Capability{"ALL"}}}}
		s.Containers = []corev1.Container{main, other}
	})
}

// result is all that a pod comes to.
func result(p *corev1.Pod) (*Workload, error) {
	return FromPod(p, aShelf(), Target{Node: "edge-1", Capacity: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}})
}

// without is a pod with a field ("Type.Field") empty wherever it is; was is whether it was set anywhere.
func without(p *corev1.Pod, field string) (out *corev1.Pod, was bool) {
	out = p.DeepCopy()
	typ, name, _ := strings.Cut(field, ".")
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Struct:
			if !ofKubernetes(v.Type()) {
				return
			}
			for i := range v.NumField() {
				if v.Type().Name() == typ && v.Type().Field(i).Name == name && !v.Field(i).IsZero() {
					v.Field(i).SetZero()
					was = true
				}
				walk(v.Field(i))
			}
		}
	}
	walk(reflect.ValueOf(&out.Spec))
	return out, was
}

func ofKubernetes(t reflect.Type) bool {
	return t.PkgPath() == reflect.TypeFor[corev1.PodSpec]().PkgPath()
}

// TestEachFieldOfAPodIsCarriedOutToldOfRefusedOrHasAReason walks all of Kubernetes' fields, so that a new one is not passed over.
func TestEachFieldOfAPodIsCarriedOutToldOfRefusedOrHasAReason(t *testing.T) {
	left := maps.Clone(meaningless)
	for _, list := range [][]of{told, refused} {
		for _, f := range list {
			left[f.field] = f.word
		}
	}
	known, seen := maps.Clone(left), map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || !ofKubernetes(typ) || seen[typ] {
			return
		}
		seen[typ] = true
		does := strings.Fields(carried[typ.Name()])
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := typ.Name() + "." + f.Name
			delete(left, name)
			switch {
			case f.Anonymous || slices.Contains(does, f.Name):
				walk(f.Type)
			case typ == reflect.TypeFor[corev1.VolumeSource]():
				refusesVolume(t, f)
			case known[name] == "":
				t.Errorf("%s: neither carried out nor told of nor refused, and no reason why it needs not", name)
			}
			does = slices.DeleteFunc(does, func(d string) bool { return d == f.Name })
		}
		if len(does) > 0 {
			t.Errorf("%s has no fields %v", typ.Name(), does)
		}
	}
	walk(reflect.TypeFor[corev1.PodSpec]())
	for name := range left {
		t.Errorf("%s: there is no such field in what is carried out", name)
	}
}

// refusesVolume demands that a volume of a kind that is not carried out is refused.
func refusesVolume(t *testing.T, f reflect.StructField) {
	t.Helper()
	v := corev1.Volume{Name: "v"}
	reflect.ValueOf(&v.VolumeSource).Elem().FieldByIndex(f.Index).Set(reflect.New(f.Type.Elem()))
	_, err := result(aPod(func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{v} }))
	if _, ok := errors.AsType[*Unsupported](err); !ok || !strings.Contains(err.Error(), "a kind that a device cannot have") {
		t.Errorf("a volume %s: %v", f.Name, err)
	}
}

func TestAFieldThatIsCarriedOutMakesADifference(t *testing.T) {
	full := fullPod()
	whole, err := result(full)
	if err != nil {
		t.Fatal(err)
	}
	for typ, names := range carried {
		for _, name := range strings.Fields(names) {
			p, was := without(full, typ+"."+name)
			if !was {
				t.Errorf("%s.%s: not in this test's pod", typ, name)
				continue
			}
			if less, err := result(p); err == nil && reflect.DeepEqual(less, whole) {
				t.Errorf("%s.%s makes no difference", typ, name)
			}
		}
	}
}

func TestWhatADeviceDoesOtherwiseIsTold(t *testing.T) {
	words := func(p *corev1.Pod) string {
		w, err := result(p)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, n := range w.Notices {
			all = append(all, n.Message)
		}
		return strings.Join(all, "; ")
	}
	for _, f := range told {
		p := aPod(func(p *corev1.Pod) { f.set(p, &p.Spec.Containers[0]) })
		bare, was := without(p, f.field)
		if with, less := words(p), words(bare); !was || !strings.Contains(with, f.word) || strings.Contains(less, f.word) {
			t.Errorf("%s (set: %t): with it %q, without it %q; wanted %q only with it", f.field, was, with, less, f.word)
		}
	}
}

func TestWhatADeviceCannotDoIsRefused(t *testing.T) {
	for _, f := range refused {
		p := aPod(func(p *corev1.Pod) { f.set(p, &p.Spec.Containers[0]) })
		_, err := result(p)
		if _, ok := errors.AsType[*Unsupported](err); !ok || !strings.Contains(err.Error(), f.word) {
			t.Errorf("%s: %v; wanted a refusal with %q", f.field, err, f.word)
		}
		bare, was := without(p, f.field)
		if _, err := result(bare); !was || err != nil && strings.Contains(err.Error(), f.word) {
			t.Errorf("%s (set: %t): refused without it as well: %v", f.field, was, err)
		}
	}
}

func TestAPrivilegedContainerHasNoFilterAndNothingIsToldOfIt(t *testing.T) {
	w := translate(t, aPod(func(p *corev1.Pod) {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}}
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true), AllowPrivilegeEscalation: new(true)}
	}))
	if len(w.Notices) != 0 {
		t.Errorf("%v", w.Notices)
	}
}

func TestAVolumeOfTheTokensNameThatIsAnothersIsDelivered(t *testing.T) {
	w := translate(t, aPod(func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "kube-api-access-mine", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "pass"}}}}}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "kube-api-access-mine", MountPath: "/m"}}
	}))
	if f := w.Secrets.Files["kube-api-access-mine"]; len(f) != 2 || len(w.Containers[0].Mounts) != 1 || len(w.Notices) != 0 {
		t.Errorf("%v, mounts %v, notices %v", f, w.Containers[0].Mounts, w.Notices)
	}
}
