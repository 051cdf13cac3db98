package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ConditionAccepted of a Rollout is True when the cluster agent has taken it, and says why not otherwise.
// Finished and Succeeded are as of a NodeCommand.
const ConditionAccepted = "Accepted"

// Rollout brings the node agents of devices to a release, batch by batch. What it does is fixed when it is created; it can be
// paused, resumed and aborted.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=rollouts,singular=rollout,shortName=nro,categories=mlsysops,scope=Namespaced
// +kubebuilder:selectablefield:JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.spec.version`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Batch",type=string,JSONPath=`.status.progress`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.counts.nodes`
// +kubebuilder:printcolumn:name="Succeeded",type=integer,JSONPath=`.status.counts.succeeded`
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.counts.failed`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="the name is that of the rollout: at most 63 characters"
type Rollout struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what to do.
	Spec RolloutSpec `json:"spec"`
	// Status is how far it is.
	Status RolloutStatus `json:"status,omitzero"`
}

// RolloutList is a list of rollouts.
//
// +kubebuilder:object:root=true
type RolloutList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Rollout `json:"items"`
}

// RolloutSpec is what to do. Only paused and abort are ever changed.
//
// +kubebuilder:validation:XValidation:rule="has(self.selector) != has(self.nodes)",message="wanted either selector or nodes"
// +kubebuilder:validation:XValidation:rule="has(self.selector) == has(oldSelf.selector) && (!has(self.selector) || self.selector == oldSelf.selector)",message="it is fixed when the rollout is created; create another one",fieldPath=".selector"
// +kubebuilder:validation:XValidation:rule="has(self.nodes) == has(oldSelf.nodes) && (!has(self.nodes) || self.nodes == oldSelf.nodes)",message="it is fixed when the rollout is created; create another one",fieldPath=".nodes"
// +kubebuilder:validation:XValidation:rule="has(self.url) == has(oldSelf.url) && (!has(self.url) || self.url == oldSelf.url)",message="it is fixed when the rollout is created; create another one",fieldPath=".url"
// +kubebuilder:validation:XValidation:rule="has(self.window) == has(oldSelf.window) && (!has(self.window) || self.window == oldSelf.window)",message="it is fixed when the rollout is created; create another one",fieldPath=".window"
// +kubebuilder:validation:XValidation:rule="!(has(oldSelf.abort) && oldSelf.abort) || (has(self.abort) && self.abort)",message="an abort is not taken back",fieldPath=".abort"
type RolloutSpec struct {
	// Version of the release, such as 1.4.0.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is fixed when the rollout is created; create another one"
	Version string `json:"version"`
	// URL of a release server in place of the cluster agent.
	// +kubebuilder:validation:MaxLength=1024
	URL string `json:"url,omitempty"`
	// Force takes nodes too for which the version is not newer.
	// +kubebuilder:default=false
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is fixed when the rollout is created; create another one"
	Force bool `json:"force,omitempty"`
	// Selector says by labels which nodes, as they are when the cluster agent takes the rollout. An empty one takes every node.
	Selector *RolloutSelector `json:"selector,omitempty"`
	// Nodes says by name which nodes.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9][a-z0-9.-]*$`
	// +listType=set
	Nodes []string `json:"nodes,omitempty"`
	// Batch is how many nodes are updated at a time: a number, or a share of all such as 10%.
	// +kubebuilder:default="10%"
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=10
	// +kubebuilder:validation:Pattern=`^([1-9][0-9]{0,8}|([1-9][0-9]?|100)%)$`
	// +kubebuilder:validation:XValidation:rule="type(self) == string || self > 0",message="wanted a number above zero, or a share such as 10%"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is fixed when the rollout is created; create another one"
	Batch intstr.IntOrString `json:"batch,omitempty"`
	// SuccessPercent of a batch have to succeed, or the rollout pauses.
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is fixed when the rollout is created; create another one"
	SuccessPercent int32 `json:"successPercent,omitempty"`
	// Pause between two batches, such as 10m.
	// +kubebuilder:default="0s"
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(s|m|h))+$') && duration(self) >= duration('0s')",message="wanted a duration such as 10m"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is fixed when the rollout is created; create another one"
	Pause string `json:"pause,omitempty"`
	// NodeTime is how long a node has from its order to its end, however long it is away.
	// +kubebuilder:default="1h"
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(s|m|h))+$') && duration(self) >= duration('1m')",message="wanted a duration of a minute or more, such as 1h"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="it is fixed when the rollout is created; create another one"
	NodeTime string `json:"nodeTime,omitempty"`
	// Window is the time of day, in UTC, at which updates may begin, such as 22:00-04:00.
	// +kubebuilder:validation:MaxLength=11
	// +kubebuilder:validation:Pattern=`^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$`
	Window string `json:"window,omitempty"`
	// Paused begins no more updates. Taken back, the rollout goes on; so it does from a pause of its own when this was set meanwhile.
	Paused bool `json:"paused,omitempty"`
	// Abort ends it: updates that were begun are cancelled where that is possible. Deleting the object aborts too.
	Abort bool `json:"abort,omitempty"`
}

// RolloutSelector chooses nodes.
type RolloutSelector struct {
	// MatchLabels are labels that a node has, all of them. They are those that skerry shows.
	// +kubebuilder:validation:MaxProperties=32
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
}

// RolloutPhase is where a rollout stands.
// +kubebuilder:validation:Enum=pending;running;paused;succeeded;failed;aborted
// +kubebuilder:validation:MaxLength=9
type RolloutPhase string

// RolloutPending is one that the cluster agent cannot take yet. The others are those of api.RolloutState, and mean the same.
const RolloutPending RolloutPhase = "pending"

// RolloutStatus is how far a rollout is.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.phase) || !(oldSelf.phase in ['succeeded', 'failed', 'aborted']) || (has(self.phase) && self.phase == oldSelf.phase)",message="the phase is final",fieldPath=".phase"
type RolloutStatus struct {
	// ID of the rollout in the cluster agent's store.
	// +kubebuilder:validation:MaxLength=63
	ID string `json:"id,omitempty"`
	// Phase is where it stands. succeeded, failed and aborted are final.
	Phase RolloutPhase `json:"phase,omitempty"`
	// Reason for the phase.
	// +kubebuilder:validation:MaxLength=1024
	Reason string `json:"reason,omitempty"`
	// Progress is the batch under way, of how many.
	// +kubebuilder:validation:MaxLength=32
	Progress string `json:"progress,omitempty"`
	// Counts of nodes by how they stand.
	Counts RolloutCounts `json:"counts,omitzero"`
	// Failures are nodes that failed, the first few of them.
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=node
	Failures []RolloutFailure `json:"failures,omitempty"`
	// PauseSeen is that spec.paused was obeyed: when it is taken back, the rollout goes on.
	PauseSeen bool `json:"pauseSeen,omitempty"`
	// ObservedGeneration is that of the object that this is about.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Started is when the cluster agent took it.
	Started *metav1.Time `json:"started,omitempty"`
	// Finished is when it came to its end.
	Finished *metav1.Time `json:"finished,omitempty"`
	// Conditions for kubectl wait: Accepted, Finished, Succeeded.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RolloutCounts sums up the nodes.
type RolloutCounts struct {
	// Nodes altogether.
	Nodes int32 `json:"nodes"`
	// Waiting for their batch.
	Waiting int32 `json:"waiting"`
	// Updating now.
	Updating int32 `json:"updating"`
	// Succeeded, also those that ran the version before.
	Succeeded int32 `json:"succeeded"`
	// Failed, or away for too long.
	Failed int32 `json:"failed"`
	// Skipped: removed, or not updated by an abort.
	Skipped int32 `json:"skipped"`
}

// RolloutFailure is a node that failed.
type RolloutFailure struct {
	// Node is its id.
	// +kubebuilder:validation:MaxLength=63
	Node string `json:"node"`
	// Reason for it.
	// +kubebuilder:validation:MaxLength=1024
	Reason string `json:"reason,omitempty"`
}
