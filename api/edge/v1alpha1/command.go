package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// The conditions of a NodeCommand, for kubectl wait. Both are absent until the command is final.
const (
	ConditionFinished  = "Finished"  // True: the phase is final
	ConditionSucceeded = "Succeeded" // True: it is succeeded. False: it is another final one, which is the reason
)

// NodeCommand is a command to one node. It is ordered once and never changed; its status ends in exactly one final phase.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=nodecommands,singular=nodecommand,shortName=ncmd,categories=mlsysops,scope=Namespaced
// +kubebuilder:selectablefield:JSONPath=`.spec.node`
// +kubebuilder:selectablefield:JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.node`
// +kubebuilder:printcolumn:name="Verb",type=string,JSONPath=`.spec.verb`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Exit",type=integer,JSONPath=`.status.exitCode`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`,priority=1
// +kubebuilder:printcolumn:name="Deadline",type=string,JSONPath=`.status.deadline`,priority=1
// +kubebuilder:printcolumn:name="Finished",type=date,JSONPath=`.status.finished`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.phase) || has(self.status)",message="the status of a command is not taken back",fieldPath=".status"
type NodeCommand struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the order.
	Spec NodeCommandSpec `json:"spec"`
	// Status is the command's life.
	Status NodeCommandStatus `json:"status,omitzero"`
}

// NodeCommandList is a list of commands.
//
// +kubebuilder:object:root=true
type NodeCommandList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeCommand `json:"items"`
}

// NodeCommandSpec is the order.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a command is not changed once it is ordered; create another one"
type NodeCommandSpec struct {
	// Node is the id of the node.
	// +kubebuilder:validation:Pattern=`^[a-z0-9][a-z0-9.-]*$`
	// +kubebuilder:validation:MaxLength=63
	Node string `json:"node"`
	// Verb is what to do, one of those that the node offers.
	// +kubebuilder:validation:Pattern=`^[a-z0-9][a-z0-9.-]*$`
	// +kubebuilder:validation:MaxLength=63
	Verb string `json:"verb"`
	// Args of the verb, as its schema says; at most 64 KiB as JSON. They are never read by a shell.
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	Args *runtime.RawExtension `json:"args,omitempty"`
	// Deadline after which the command is closed: a duration from the object's creation, such as 30s or 1h30m, or an
	// RFC 3339 instant.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|µs|ms|s|m|h))+$') ? duration(self) > duration('0s') : self.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$')",message="wanted a duration above zero, such as 30s, or an RFC 3339 instant"
	Deadline string `json:"deadline"`
	// TTLSecondsAfterFinished is how long the object stays after the command is final.
	// +kubebuilder:default=86400
	// +kubebuilder:validation:Minimum=0
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`
}

// Phase is where a command stands: one of api.Phase, and means the same.
// +kubebuilder:validation:Enum=queued;delivered;accepted;running;interrupted;succeeded;failed;rejected;cancelled;timed_out;expired
// +kubebuilder:validation:MaxLength=11
type Phase string

// NodeCommandStatus is the life of a command.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.phase) || has(self.phase)",message="the phase of a command is not taken back",fieldPath=".phase"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.phase) || !has(self.phase) || self.phase == oldSelf.phase || !(oldSelf.phase in ['succeeded', 'failed', 'rejected', 'cancelled', 'timed_out', 'expired'])",message="the phase is final",fieldPath=".phase"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.phase) || !has(self.phase) || self.phase == oldSelf.phase || !(self.phase in ['queued', 'delivered', 'accepted', 'running', 'interrupted']) || (self.phase == 'delivered' && oldSelf.phase == 'queued') || (self.phase == 'accepted' && oldSelf.phase in ['queued', 'delivered']) || (self.phase == 'running' && oldSelf.phase in ['queued', 'delivered', 'accepted', 'interrupted']) || (self.phase == 'interrupted' && oldSelf.phase in ['queued', 'delivered', 'accepted', 'running'])",message="a command does not go back; only running follows interrupted",fieldPath=".phase"
// +kubebuilder:validation:XValidation:rule="has(self.finished) == (has(self.phase) && self.phase in ['succeeded', 'failed', 'rejected', 'cancelled', 'timed_out', 'expired'])",message="wanted exactly with a final phase",fieldPath=".finished"
type NodeCommandStatus struct {
	// ID of the command in the cluster agent's journal.
	ID string `json:"id,omitempty"`
	// Phase is where it stands. A final one never changes.
	Phase Phase `json:"phase,omitempty"`
	// Outcome is the final phase that the node reported, where it came too late and differs from phase.
	Outcome Phase `json:"outcome,omitempty"`
	// Reason for the phase.
	// +kubebuilder:validation:MaxLength=1024
	Reason string `json:"reason,omitempty"`
	// Progress is the node's own word on how far it is.
	// +kubebuilder:validation:MaxLength=1024
	Progress string `json:"progress,omitempty"`
	// Deadline as an instant.
	Deadline *metav1.Time `json:"deadline,omitempty"`
	// Finished is when phase became final.
	Finished *metav1.Time `json:"finished,omitempty"`
	// ExitCode where the verb has one.
	ExitCode *int32 `json:"exitCode,omitempty"`
	// Output is the end of what was printed.
	// +kubebuilder:validation:MaxLength=32768
	Output string `json:"output,omitempty"`
	// TruncatedBytes is how much was left out before output.
	TruncatedBytes *int64 `json:"truncatedBytes,omitempty"`
	// Result of the verb.
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	Result *runtime.RawExtension `json:"result,omitempty"`
	// History is every transition, in order of time.
	History []Transition `json:"history,omitempty"`
	// Conditions for kubectl wait.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Transition is one step of a command's life.
type Transition struct {
	// Phase that it came to.
	Phase Phase `json:"phase"`
	// At is when.
	At metav1.MicroTime `json:"at"`
	// Side that reported it.
	// +kubebuilder:validation:Enum=node;cluster
	Side string `json:"side"`
	// Reason for it.
	// +kubebuilder:validation:MaxLength=1024
	Reason string `json:"reason,omitempty"`
}
