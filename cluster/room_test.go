package cluster

import (
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/bridge"
	"github.com/skerry-edge/skerry/cluster/registry"
)

// TestAsManyPodsFitAsANodeSaysItTakes has pods with the usual: a probe, variables, limits, a volume, and names as long as a Deployment makes.
func TestAsManyPodsFitAsANodeSaysItTakes(t *testing.T) {
	room, err := registry.Room(&api.Desired{})
	if err != nil {
		t.Fatal(err)
	}
	device := &api.Node{ID: "n1", Birth: &api.Birth{Runtimes: []string{"process"}, Host: api.Host{CPUs: 1, MemoryBytes: 1 << 30}}}
	node := bridge.FromDevice(device, bridge.Pressure{}, nil, bridge.Place{}, time.Now())
	limits := corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi"), corev1.ResourceCPU: resource.MustParse("500m")}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "department-of-harbours", Name: "temperature-reader-6c8f4d9b7c-x2x9z", UID: "0b3c0b3c-0000-4000-8000-000000000001"},
		Spec: corev1.PodSpec{HostNetwork: true, Volumes: []corev1.Volume{{Name: "cache", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
			Containers: []corev1.Container{{Name: "main", Image: "registry.example.org/harbours/temperature-reader:1.14.2", Args: []string{"--every", "10s"},
				Env:       []corev1.EnvVar{{Name: "LOG_LEVEL", Value: "info"}, {Name: "BROKER", Value: "mqtt.harbours.example.org:1883"}},
				Resources: corev1.ResourceRequirements{Limits: limits}, VolumeMounts: []corev1.VolumeMount{{Name: "cache", MountPath: "/var/cache/reader"}},
				LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}}}}}}}
	w, err := bridge.FromPod(pod, nil, bridge.Target{Node: "n1", Capacity: node.Status.Allocatable})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(&w.Workload)
	if err != nil {
		t.Fatal(err)
	}
	if pods := node.Status.Allocatable.Pods().Value(); pods*int64(len(raw)+97) > int64(room) {
		t.Errorf("%d pods of %d bytes do not fit into %d", pods, len(raw), room)
	} else {
		t.Logf("room %d, one takes %d", room, len(raw))
	}
}
