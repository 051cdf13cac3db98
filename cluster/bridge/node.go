package bridge

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-edge/skerry/api"
)

// Names that a virtual node carries.
const (
	TaintFarEdge       = "mlsysops.eu/far-edge"     // NoSchedule, always: nothing lands on a device by accident
	TaintDisconnected  = "mlsysops.eu/disconnected" // NoSchedule, while the device is not there
	TaintDraining      = "mlsysops.eu/draining"     // NoSchedule, while it is on its way out
	LabelLayer         = "mlsysops.eu/layer"
	LabelCluster       = "mlsysops.eu/cluster"  // whose cluster agent acts for it
	LabelRuntimePrefix = "runtime.mlsysops.eu/" // process, wasm, containerd: "true"
	SensorPrefix       = "sensor.mlsysops.eu/"  // label kind=model, and an extended resource that counts them
	LayerNode          = "node"
	ManagedBy          = "app.kubernetes.io/managed-by"
	Manager            = "skerry"
	// RegionPrefix begins the region of a device that has none by its labels: its own. Kubernetes holds evictions back in a region and zone of
	// which more than half is silent (node lifecycle controller, partial disruption), and for devices silence is nothing special: among
	// the machines it would keep pods of a dead machine from being evicted, in one region for all devices those of a lost device. No zone is
	// given: pods that are to be spread over zones would wait for one of theirs to land on a device.
	RegionPrefix = "far-edge-"
)

// maxPods is how many pods a device may have: so many have 1 KiB each in the document that it is told.
const maxPods = 64

// Registered reports whether a kubelet has told of its machine: its machine id is no key of ours, as of a machine that has none.
func Registered(info *corev1.NodeSystemInfo) bool {
	return info.KubeletVersion != "" && len(info.MachineID) != hex.EncodedLen(sha256.Size)
}

// Virtual reports whether a device becomes a node: one that offers a runtime.
func Virtual(n *api.Node) bool { return n.Birth != nil && len(n.Birth.Runtimes) > 0 }

// Ceased reports whether a device says that it offers no runtime, so that it is a node no more. One that has not said anything yet may
// have been one.
func Ceased(n *api.Node) bool { return n.Birth != nil && len(n.Birth.Runtimes) == 0 }

// Node is what a device is to Kubernetes. Address is the one host name that all virtual nodes share, see the package
// cluster/kube; with an IP in its place there is no tunnel.
type Node struct {
	Labels   map[string]string
	Taints   []corev1.Taint
	Status   corev1.NodeStatus
	Here     bool // its Lease is to be renewed
	Autonomy time.Duration
}

// Place is where a virtual node is, and where its kubelet API is reached.
type Place struct {
	Cluster   string
	Addresses []corev1.NodeAddress
	Port      int32
	Version   string
}

// Pressure is what the device's own telemetry says of its resources; an empty status is: not measured.
type Pressure struct{ Memory, Disk, PIDs corev1.ConditionStatus }

// Short is the status of a resource that was measured.
func Short(short bool) corev1.ConditionStatus {
	if short {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

// FromDevice translates a device. was is the status that the Node has; conditions keep the time of their last transition.
func FromDevice(n *api.Node, under Pressure, was *corev1.NodeStatus, p Place, now time.Time) Node {
	here, reason, message := Connected(n)
	out := Node{Labels: nodeLabels(n, p.Cluster), Here: here, Autonomy: time.Duration(n.Birth.AutonomyMillis) * time.Millisecond,
		Taints: []corev1.Taint{{Key: TaintFarEdge, Effect: corev1.TaintEffectNoSchedule}}}
	if !here {
		out.Taints = append(out.Taints, corev1.Taint{Key: TaintDisconnected, Value: string(n.Presence), Effect: corev1.TaintEffectNoSchedule})
	}
	if n.Presence == api.PresenceDraining {
		out.Taints = append(out.Taints, corev1.Taint{Key: TaintDraining, Effect: corev1.TaintEffectNoSchedule})
	}
	capacity := capacityOf(n)
	out.Status = corev1.NodeStatus{Capacity: capacity, Allocatable: capacity.DeepCopy(), Addresses: p.Addresses,
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: p.Port}},
		NodeInfo: corev1.NodeSystemInfo{MachineID: n.KeySHA256, SystemUUID: n.KeySHA256, BootID: n.Boot, KernelVersion: n.Birth.Host.Kernel,
			OSImage: n.Birth.Host.OS, ContainerRuntimeVersion: n.Birth.Runtimes[0] + "://" + n.Birth.Version, KubeletVersion: p.Version,
			OperatingSystem: "linux", Architecture: arch(n.Birth.Host.Arch)}}
	if was != nil {
		out.Status.Conditions = slices.Clone(was.Conditions)
	}
	for _, c := range nodeConditions(here, under, reason, message) {
		out.Status.Conditions = withCondition(out.Status.Conditions, c, now)
	}
	return out
}

// arch drops the level of ARM: Kubernetes knows GOARCH alone.
func arch(s string) string {
	if strings.HasPrefix(s, "armv") {
		return "arm"
	}
	return s
}

func nodeLabels(n *api.Node, cluster string) map[string]string {
	out := maps.Clone(n.Labels)
	if out == nil {
		out = map[string]string{}
	}
	for _, s := range n.Birth.Sensors {
		if model := labelValue(s.Model); api.ValidLabel("sensor", SensorPrefix+s.Kind, model) == nil {
			out[SensorPrefix+s.Kind] = model
		}
	}
	for _, r := range n.Birth.Runtimes {
		out[LabelRuntimePrefix+r] = "true"
	}
	if out[corev1.LabelTopologyRegion] == "" {
		out[corev1.LabelTopologyRegion] = labelValue(RegionPrefix + n.ID)
	}
	maps.Copy(out, map[string]string{corev1.LabelArchStable: arch(n.Birth.Host.Arch), corev1.LabelOSStable: "linux", corev1.LabelHostname: n.ID,
		LabelLayer: LayerNode, LabelCluster: cluster, ManagedBy: Manager, corev1.LabelNodeExcludeBalancers: ""})
	return out
}

// labelValue fits a model's name into a label: what may not be there becomes '-'.
func labelValue(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.') {
			return r
		}
		return '-'
	}, s)
	if len(s) > 63 {
		s = s[:63]
	}
	return strings.Trim(s, "-_.")
}

// capacityOf is what the device says of itself; a tenth of its memory, and at most 64 MiB, is not for workloads.
func capacityOf(n *api.Node) corev1.ResourceList {
	h := &n.Birth.Host
	out := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(int64(max(h.CPUs, 1)), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(int64(h.MemoryBytes-min(h.MemoryBytes/10, 64<<20)), resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(maxPods, resource.DecimalSI),
	}
	if h.DiskBytes > 0 {
		out[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(int64(h.DiskBytes), resource.BinarySI)
	}
	count := map[string]int64{}
	for _, s := range n.Birth.Sensors {
		count[s.Kind]++
	}
	for kind, c := range count {
		if api.ValidLabel("sensor", SensorPrefix+kind, "") == nil {
			out[corev1.ResourceName(SensorPrefix+kind)] = *resource.NewQuantity(c, resource.DecimalSI)
		}
	}
	return out
}

// Connected reports whether a device is there, with a reason in Kubernetes' form and one for people. A device that sleeps, drains or
// said goodbye is not: what it was told reaches it later.
func Connected(n *api.Node) (here bool, reason, message string) {
	if n == nil {
		return false, "Unknown", "the device is not known"
	}
	word := string(n.Presence)
	reason = strings.ToUpper(word[:min(1, len(word))]) + word[min(1, len(word)):]
	return n.Presence == api.PresenceOnline || n.Presence == api.PresenceDraining, reason, n.Reason
}

func nodeConditions(here bool, under Pressure, reason, message string) []corev1.NodeCondition {
	ready, connected := corev1.ConditionTrue, corev1.ConditionTrue
	if !here {
		ready, connected, under = corev1.ConditionUnknown, corev1.ConditionFalse, Pressure{}
	}
	pressure := func(kind corev1.NodeConditionType, status corev1.ConditionStatus) corev1.NodeCondition {
		why := "NotMeasured"
		switch {
		case !here:
			status, why = corev1.ConditionUnknown, reason
		case status == corev1.ConditionTrue:
			why = "Pressure"
		case status == corev1.ConditionFalse:
			why = "NoPressure"
		default:
			status = corev1.ConditionUnknown
		}
		return corev1.NodeCondition{Type: kind, Status: status, Reason: why}
	}
	return []corev1.NodeCondition{
		pressure(corev1.NodeMemoryPressure, under.Memory), pressure(corev1.NodeDiskPressure, under.Disk), pressure(corev1.NodePIDPressure, under.PIDs),
		{Type: ConditionConnected, Status: connected, Reason: reason, Message: message},
		{Type: corev1.NodeReady, Status: ready, Reason: reason, Message: message},
	}
}

func withCondition(list []corev1.NodeCondition, c corev1.NodeCondition, now time.Time) []corev1.NodeCondition {
	c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	c.LastHeartbeatTime = c.LastTransitionTime
	at := slices.IndexFunc(list, func(have corev1.NodeCondition) bool { return have.Type == c.Type })
	if at < 0 {
		return append(list, c)
	}
	if list[at].Status == c.Status {
		c.LastTransitionTime = list[at].LastTransitionTime
	}
	list[at] = c
	return list
}

// EvictEarly is the annotation of a pod that may be evicted before its device's autonomy is over: "true" has its own tolerations count.
const EvictEarly = "mlsysops.eu/evict-early"

// Tolerations are those of a pod that must outlive the silence of its device: the API server's defaults, 300 s or what its flags say, evict
// it while it may well run. Only the time of those that tolerate a silence grows, to what the device said that it may be away; the API
// server permits that (ValidatePodUpdate). ok is false when nothing has to change.
func Tolerations(pod *corev1.Pod, autonomy time.Duration) (out []corev1.Toleration, ok bool) {
	if pod.Annotations[EvictEarly] == "true" {
		return pod.Spec.Tolerations, false
	}
	seconds := int64(autonomy / time.Second)
	out = slices.Clone(pod.Spec.Tolerations)
	for i := range out {
		t := &out[i]
		silence := t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable
		if silence && t.Effect == corev1.TaintEffectNoExecute && t.TolerationSeconds != nil && *t.TolerationSeconds < seconds {
			t.TolerationSeconds, ok = &seconds, true
		}
	}
	return out, ok
}
