package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MLSysOpsNode is a node: a machine or device that can run components, and what it has.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=mlsysopsnodes,singular=mlsysopsnode,shortName=mlsnode,categories=mlsysops,scope=Namespaced
// +kubebuilder:printcolumn:name="Layer",type=string,JSONPath=`.continuum_layer`
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.cluster_id`
// +kubebuilder:printcolumn:name="Presence",type=string,JSONPath=`.status.presence`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Arch",type=string,JSONPath=`.hardware.cpu.architecture`,priority=1
// +kubebuilder:printcolumn:name="OS",type=string,JSONPath=`.environment.os`,priority=1
// +kubebuilder:printcolumn:name="Seen",type=date,JSONPath=`.status.lastSeen`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type MLSysOpsNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	NodeDescription   `json:",inline"`

	// Status is what the agents report.
	Status NodeStatus `json:"status,omitzero"`
}

// MLSysOpsNodeList is a list of nodes.
//
// +kubebuilder:object:root=true
type MLSysOpsNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MLSysOpsNode `json:"items"`
}

// NodeDescription is the description of a node.
type NodeDescription struct {
	// Name of the node; the object's own name counts.
	Name string `json:"name,omitempty"`
	// Labels that node_placement.labels asks for. They are not the object's labels.
	Labels []string `json:"labels,omitempty"`
	// ContinuumLayer that the node belongs to.
	ContinuumLayer Layer `json:"continuum_layer"`
	// ClusterID is the cluster that it belongs to.
	ClusterID string `json:"cluster_id,omitempty"`
	// DatacenterID is the datacenter that it stands in.
	DatacenterID string `json:"datacenter_id,omitempty"`
	// Availability says whether it comes and goes.
	Availability Availability `json:"availability,omitempty"`
	// Mobile says that it moves.
	Mobile *bool `json:"mobile,omitempty"`
	// Location is longitude and latitude; for a mobile node those of its base.
	Location []float64 `json:"location,omitempty"`
	// Sensors that it has.
	Sensors []NodeSensor `json:"sensors,omitempty"`
	// PermittedActions are what policies may do on it.
	PermittedActions []NodeAction `json:"permitted_actions,omitempty"`
	// DistributedStorageService is its part in the distributed storage.
	DistributedStorageService *StorageService `json:"distributed_storage_service,omitempty"`
	// Environment is the system that it runs.
	Environment Environment `json:"environment"`
	// AccelerationAPI lists the accelerated calls that it offers.
	AccelerationAPI []OfferedCall `json:"acceleration_api,omitempty"`
	// Hardware that it has.
	Hardware Hardware `json:"hardware"`
	// NetworkResources are its network interfaces.
	NetworkResources *NetworkResources `json:"network_resources,omitempty"`
	// Power says what it draws and may draw.
	Power *Power `json:"power,omitempty"`
}

// StorageService is a node's part in the distributed storage.
type StorageService struct {
	// Member says that the node takes part.
	Member *bool `json:"member,omitempty"`
	// AvailableSpace in GB.
	AvailableSpace *float64 `json:"available_space,omitempty"`
}

// Environment is the system that a node runs.
type Environment struct {
	// NodeType says what stands between the system and the hardware.
	NodeType NodeType `json:"node_type,omitempty"`
	// OS: ubuntu, kali, zephyr or another.
	OS Word `json:"os,omitempty"`
	// ContainerRuntime lists what runs workloads: containerd, docker, emb_serve or another.
	ContainerRuntime []Word `json:"container_runtime,omitempty"`
}

// OfferedCall is an accelerated call that a node offers.
type OfferedCall struct {
	// CallName: calc_optical_flow, image_inference or another.
	CallName Word `json:"call_name"`
	// SupportedPlatforms is what it can run on.
	SupportedPlatforms []SupportedPlatform `json:"supported_platforms"`
}

// SupportedPlatform is what an accelerated call can run on.
type SupportedPlatform struct {
	// Name: cpu, gpu, fpga, tpu or another.
	Name Word `json:"name,omitempty"`
	// SupportedFrameworks: pytorch, tensorflow, opencl or another. The field's spelling is the framework's.
	SupportedFrameworks []Word `json:"suported_frameworks,omitempty"`
}
