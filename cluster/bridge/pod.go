package bridge

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-edge/skerry/api"
)

// References finds what pods refer to, in the namespace of the pod. Nil is: not there.
type References interface {
	ConfigMap(namespace, name string) (*corev1.ConfigMap, error)
	Secret(namespace, name string) (*corev1.Secret, error)
}

// Target is the virtual node that a pod is bound to.
type Target struct {
	Node     string
	Capacity corev1.ResourceList // for limits that are not set, as the downward API wants them
	// HostNetworkImplied takes pods without hostNetwork too. Pod Security's rules do not see that they get the network of the device.
	HostNetworkImplied bool
}

// Workload is what became of a pod. Secrets are to be sealed for the device before the rest leaves the cluster agent.
type Workload struct {
	api.Workload
	Secrets api.Secrets
	Notices []corev1.PodCondition
}

// Unsupported is the error for a pod that wants what no device can do. It does not pass by itself.
type Unsupported struct{ Fields []string }

func (u *Unsupported) Error() string {
	return "not supported on a far-edge device: " + strings.Join(u.Fields, "; ")
}

// Missing is the error for a pod that refers to something that is not there, or not yet.
type Missing struct{ What []string }

func (m *Missing) Error() string { return strings.Join(m.What, "; ") }

// Notice is the condition of a pod that runs on without it.
func (m *Missing) Notice() corev1.PodCondition {
	return corev1.PodCondition{Type: ConditionNative, Status: corev1.ConditionFalse, Reason: "NotRenewed", Message: "nothing of the pod is renewed until it is there: " + m.Error()}
}

// Denied is the error of References for something that may not be read. To the pod it is Missing.
type Denied struct{ Why string }

func (d *Denied) Error() string { return d.Why }

// NoRoom is the error for a pod that does not fit into its device's document beside those that are there. Sizes are in bytes.
type NoRoom struct{ Takes, Free, Whole int }

func (n *NoRoom) Error() string {
	text := fmt.Sprintf("no room for it in what the device is told: it takes %d bytes, with the content of the ConfigMaps and Secrets that it refers to", n.Takes)
	if n.Takes > n.Whole {
		return fmt.Sprintf("%s; all pods of a device may take %d", text, n.Whole)
	}
	return fmt.Sprintf("%s; %d of %d are free, and it waits for more", text, n.Free, n.Whole)
}

// The conditions that a pod on a device has beside Kubernetes' own.
const (
	ConditionSupported = "mlsysops.eu/Supported"  // False: Unsupported or NoRoom says why
	ConditionConnected = "mlsysops.eu/Connected"  // of the device
	ConditionNetwork   = "mlsysops.eu/PodNetwork" // False: containers share the network of the device
	ConditionToken     = "mlsysops.eu/ServiceAccountToken"
	ConditionNative    = "mlsysops.eu/AsKubelet" // False: what the device does otherwise
)

// notices are the conditions that come and go with their reason.
var notices = []corev1.PodConditionType{ConditionNetwork, ConditionToken, ConditionNative}

// RuntimeKey picks a runtime as an annotation of a pod; a RuntimeClass has precedence. Its values are process, wasm and containerd.
const RuntimeKey = "mlsysops.eu/runtime"

// translation gathers what is wrong with a pod, so that all of it is told at once.
type translation struct {
	pod     *corev1.Pod
	refs    References
	target  Target
	out     *Workload
	refused []string
	missing []string
	native  []string
	left    []string // volumes that are left out with a notice
	err     error    // a look-up that failed: it passes
}

// FromPod translates a pod. The error is Unsupported, Missing or a failed look-up.
func FromPod(pod *corev1.Pod, refs References, target Target) (*Workload, error) {
	spec := &pod.Spec
	t := &translation{pod: pod, refs: refs, target: target, out: &Workload{}}
	w := &t.out.Workload
	w.Name = string(pod.UID)
	w.Pod = &api.PodRef{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID)}
	w.Restart = restartPolicy(spec.RestartPolicy)
	w.GraceSeconds = 30
	if s := spec.TerminationGracePeriodSeconds; s != nil {
		w.GraceSeconds = max(*s, 0)
	}
	if s := spec.ActiveDeadlineSeconds; s != nil {
		w.LimitSeconds = *s
	}
	w.Hostname = spec.Hostname
	t.runtime()
	t.refuse()
	t.volumes()
	for i := range spec.InitContainers {
		if p := spec.InitContainers[i].RestartPolicy; p != nil && *p == corev1.ContainerRestartPolicyAlways {
			t.no("initContainers[%s].restartPolicy: sidecars", spec.InitContainers[i].Name)
		}
		w.Init = append(w.Init, t.container(&spec.InitContainers[i]))
	}
	for i := range spec.Containers {
		w.Containers = append(w.Containers, t.container(&spec.Containers[i]))
	}
	t.notices()
	switch {
	case len(t.refused) > 0:
		return nil, &Unsupported{t.refused}
	case t.err != nil:
		return nil, t.err
	case len(t.missing) > 0:
		return nil, &Missing{t.missing}
	}
	if err := w.Validate(); err != nil {
		return nil, &Unsupported{[]string{err.Error()}}
	}
	return t.out, nil
}

func (t *translation) no(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(t.refused, text) {
		t.refused = append(t.refused, text)
	}
}

func (t *translation) otherwise(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(t.native, text) {
		t.native = append(t.native, text)
	}
}

func restartPolicy(p corev1.RestartPolicy) api.RestartPolicy {
	switch p {
	case corev1.RestartPolicyNever:
		return api.RestartNever
	case corev1.RestartPolicyOnFailure:
		return api.RestartOnFailure
	default:
		return api.RestartAlways
	}
}

// runtime takes the handler's name from the RuntimeClass's, so that a cluster needs no look-up: skerry-process, skerry-wasm and
// skerry-containerd are those that install/kube has.
func (t *translation) runtime() {
	name := t.pod.Annotations[RuntimeKey]
	if class := t.pod.Spec.RuntimeClassName; class != nil && *class != "" {
		name = strings.TrimPrefix(*class, "skerry-")
	}
	switch name {
	case "", "process", "wasm", "containerd":
		t.out.Runtime = name
	default:
		t.no("runtime %.63q: wanted process, wasm or containerd", name)
	}
}

// notices are the conditions for what is done in another way than a kubelet does it.
func (t *translation) notices() {
	s := &t.pod.Spec
	if !s.HostNetwork {
		t.notice(ConditionNetwork, "HostNetworkOnly", "the device has no pod network: containers share its own, and the pod has no address of its own")
	}
	if len(s.ImagePullSecrets) > 0 {
		t.otherwise("imagePullSecrets are not used: images come through the cluster agent, with its credentials")
	}
	if s.DNSPolicy == corev1.DNSClusterFirst && !s.HostNetwork || s.DNSPolicy == corev1.DNSClusterFirstWithHostNet {
		t.otherwise("names are resolved as the device does (dnsPolicy Default): it does not reach the cluster's DNS")
	}
	if len(s.EphemeralContainers) > 0 { // they come with time, and the pod's own run on
		t.otherwise("ephemeralContainers are not run")
	}
	if len(t.native) > 0 {
		slices.Sort(t.native)
		t.notice(ConditionNative, "Differs", strings.Join(t.native, "; "))
	}
}

func (t *translation) notice(condition corev1.PodConditionType, reason, message string) {
	t.out.Notices = append(t.out.Notices, corev1.PodCondition{Type: condition, Status: corev1.ConditionFalse, Reason: reason, Message: message})
}
