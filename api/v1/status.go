package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ConditionReady is the condition that every kind has: the agents are done with the description, and it holds now.
const ConditionReady = "Ready"

// AppPhase is where an application stands, in the words of the framework's REST interface.
// +kubebuilder:validation:Enum=Queued;Under_deployment;Deployed;Deployment_Failed;To_be_removed;Removed
type AppPhase string

// The phases of an application.
const (
	AppQueued          AppPhase = "Queued"
	AppUnderDeployment AppPhase = "Under_deployment"
	AppDeployed        AppPhase = "Deployed"
	AppFailed          AppPhase = "Deployment_Failed"
	AppToBeRemoved     AppPhase = "To_be_removed"
	AppRemoved         AppPhase = "Removed"
)

// AppStatus is what became of an application.
type AppStatus struct {
	// ObservedGeneration is the generation of the description that the status is about.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Phase sums it up.
	Phase AppPhase `json:"phase,omitempty"`
	// Components are the instances of each component.
	Components []ComponentStatus `json:"components,omitempty"`
	// Conditions in detail.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ComponentStatus is what became of a component.
type ComponentStatus struct {
	// Name of the component.
	Name string `json:"name"`
	// Instances of it, of all clusters.
	Instances []Instance `json:"instances,omitempty"`
}

// Instance is a component as it was placed.
type Instance struct {
	// Cluster that it was placed in.
	Cluster string `json:"cluster,omitempty"`
	// Node that it was placed on.
	Node string `json:"node,omitempty"`
	// Pod that carries it.
	Pod string `json:"pod,omitempty"`
	// Phase of the pod: Pending, Running, Succeeded, Failed or Unknown.
	Phase string `json:"phase,omitempty"`
	// Reason for the phase.
	Reason string `json:"reason,omitempty"`
}

// Presence is what the cluster agent concludes about a node.
// +kubebuilder:validation:Enum=enrolled;online;sleeping;draining;offline;disconnected;lost
type Presence string

// NodeStatus is how a node is.
type NodeStatus struct {
	// ObservedGeneration is the generation of the description that the status is about.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Presence of a node that a node agent runs on.
	Presence Presence `json:"presence,omitempty"`
	// LastSeen is when the node was last heard of; it is written now and then, not on every message.
	LastSeen *metav1.Time `json:"lastSeen,omitempty"`
	// Conditions in detail.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// GroupStatus is how a cluster, continuum or datacenter is.
type GroupStatus struct {
	// ObservedGeneration is the generation of the description that the status is about.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Members is how many nodes or clusters it has.
	Members *int64 `json:"members,omitempty"`
	// ReadyMembers is how many of them are ready.
	ReadyMembers *int64 `json:"readyMembers,omitempty"`
	// Conditions in detail.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
