package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MLSysOpsApp is an application: components, what they need, how they talk to each other, and what is expected of them.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=mlsysopsapps,singular=mlsysopsapp,shortName=mlsapp,categories=mlsysops,scope=Namespaced
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Clusters",type=string,JSONPath=`.cluster_placement.cluster_id`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type MLSysOpsApp struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	AppDescription    `json:",inline"`

	// Status is what the agents report.
	Status AppStatus `json:"status,omitzero"`
}

// MLSysOpsAppList is a list of applications.
//
// +kubebuilder:object:root=true
type MLSysOpsAppList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MLSysOpsApp `json:"items"`
}

// AppDescription is the description of an application.
type AppDescription struct {
	// Name of the application; the object's own name counts.
	Name string `json:"name,omitempty"`
	// ClusterPlacement says where the application may run.
	ClusterPlacement *ClusterPlacement `json:"cluster_placement,omitempty"`
	// SingleNode lists groups of components that belong on one node; it goes before their node_placement.
	SingleNode []SingleNode `json:"single_node,omitempty"`
	// Components of the application.
	Components []Component `json:"components"`
	// ComponentInteractions says which component calls which.
	ComponentInteractions []Interaction `json:"component_interactions,omitempty"`
	// PermittedActions are what policies may do to the application.
	PermittedActions []AppAction `json:"permitted_actions,omitempty"`
	// GlobalSatisfaction says when the application as a whole does what is expected.
	GlobalSatisfaction *GlobalSatisfaction `json:"global_satisfaction,omitempty"`
}

// ClusterPlacement says where an application may run.
type ClusterPlacement struct {
	// ClusterID lists the clusters that may be chosen.
	ClusterID []string `json:"cluster_id,omitempty"`
	// Instances is the wanted number of copies of the application.
	Instances *int64 `json:"instances,omitempty"`
	// Location lists the places that may be chosen.
	Location *PlaceChoice `json:"location,omitempty"`
	// CloudProvider is whose machines they have to be: private, aws, microsoft_azure, gcp or another.
	CloudProvider Word `json:"cloud_provider,omitempty"`
	// Accelerators of which a cluster has to have at least one each: gpu, fpga, tpu or another.
	Accelerators []Word `json:"accelerators,omitempty"`
	// NodeTypes of which a cluster has to have at least one node each.
	NodeTypes []Layer `json:"node_types,omitempty"`
}

// PlaceChoice lists places that would do.
type PlaceChoice struct {
	// Continent: Europe, Asia or another.
	Continent []Word `json:"continent,omitempty"`
	// Country by its code: el, it, fr, nl, ie, pt, dk, il or another.
	Country []Word `json:"country,omitempty"`
	// City: volos, athens, rende, milan, lille, delft, dublin, aveiro, porto, aarhus, jerusalem or another.
	City []Word `json:"city,omitempty"`
}

// SingleNode is a group of components that belong on one node, and what is asked of that node.
type SingleNode struct {
	// Components are the names of the components.
	Components    []string `json:"components,omitempty"`
	NodePlacement `json:",inline"`
}

// NodePlacement says what is asked of a node.
type NodePlacement struct {
	// ContinuumLayer lists the layers that would do.
	ContinuumLayer []LayerChoice `json:"continuum_layer,omitempty"`
	// Scaling says how many instances there are to be.
	Scaling *Scaling `json:"scaling,omitempty"`
	// Mobile asks for a node that moves.
	Mobile *bool `json:"mobile,omitempty"`
	// Labels that the node has to have, all of them.
	Labels []string `json:"labels,omitempty"`
	// Node is the one node that will do.
	Node string `json:"node,omitempty"`
}

// Scaling says how many instances of a component there are to be.
type Scaling struct {
	// ScalingMode says who changes the number.
	ScalingMode ScalingMode `json:"scaling_mode,omitempty"`
	// Instances is the number to begin with.
	Instances *int64 `json:"instances,omitempty"`
	// ScalingCriteria is what automatic scaling looks at.
	ScalingCriteria ScalingCriterion `json:"scaling_criteria,omitempty"`
}

// Interaction says that one component calls another.
type Interaction struct {
	// ComponentName1 is one component.
	ComponentName1 string `json:"component_name1,omitempty"`
	// Type is egress when component_name1 calls component_name2, ingress for the reverse.
	Type InteractionType `json:"type,omitempty"`
	// ComponentName2 is the other component.
	ComponentName2 string `json:"component_name2,omitempty"`
	// InteractionCriticality says how much the application depends on it.
	InteractionCriticality Criticality `json:"interaction_criticality,omitempty"`
	// InteractionMetrics are what is expected of it.
	InteractionMetrics []InteractionMetric `json:"interaction_metrics,omitempty"`
}

// InteractionMetric is what is expected of an interaction.
type InteractionMetric struct {
	// SystemMetricID is the measure.
	SystemMetricID InteractionMetricID `json:"system_metric_id,omitempty"`
	// Target is the value to hold.
	Target *float64 `json:"target,omitempty"`
	// MeasurementUnit is the unit of target.
	MeasurementUnit InteractionUnit `json:"measurement_unit,omitempty"`
	// Relation is how the measured value has to stand to target.
	Relation Relation `json:"relation,omitempty"`
}

// GlobalSatisfaction says when an application does what is expected: when the sum of the weights of its satisfied
// metrics stands to the threshold as the relation says.
type GlobalSatisfaction struct {
	// Threshold above 0 and at most 1.
	Threshold *float64 `json:"threshold,omitempty"`
	// Relation of the sum of the weights to threshold.
	Relation SatisfactionRelation `json:"relation,omitempty"`
	// AchievementWeights are the weights of the metrics; they add up to 1.
	AchievementWeights []AchievementWeight `json:"achievement_weights,omitempty"`
}

// AchievementWeight is the weight of one metric.
type AchievementWeight struct {
	// MetricID is an application_metric_id.
	MetricID string `json:"metric_id,omitempty"`
	// Weight between 0 and 1.
	Weight *float64 `json:"weight,omitempty"`
}
