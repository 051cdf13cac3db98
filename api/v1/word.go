package v1

import (
	"encoding/json"
	"fmt"
)

// The types here are the vocabularies of the descriptions. A closed one has an enum: code or a calculation depends on the
// word, and an unknown one would be ignored without a sign. An open one is a Word: the framework's list of sensors,
// architectures or cities would only keep out what it does not know. The known words stand in each field's comment.

// Word is a word of an open vocabulary. It is compared as it stands; an empty one is refused.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
type Word string

// Resolution is a picture's width and height in pixels, such as 1024x768.
// +kubebuilder:validation:Pattern=`^[1-9][0-9]{0,5}x[1-9][0-9]{0,5}$`
type Resolution string

// Layer is a layer of the continuum.
// +kubebuilder:validation:Enum=cloud;edge_infrastructure;edge;far_edge
type Layer string

// The layers, from the centre outwards.
const (
	LayerCloud              Layer = "cloud"
	LayerEdgeInfrastructure Layer = "edge_infrastructure"
	LayerEdge               Layer = "edge"
	LayerFarEdge            Layer = "far_edge"
)

// LayerChoice is a layer that would do, or * for any.
// +kubebuilder:validation:Enum=cloud;edge_infrastructure;edge;far_edge;"*"
type LayerChoice string

// AnyLayer is the choice that every layer meets.
const AnyLayer LayerChoice = "*"

// Relation says how a measured value has to stand to its target.
// +kubebuilder:validation:Enum=lower_or_equal;greater_or_equal;equal;lower_than;greater_than
type Relation string

// The relations.
const (
	LowerOrEqual   Relation = "lower_or_equal"
	GreaterOrEqual Relation = "greater_or_equal"
	Equal          Relation = "equal"
	LowerThan      Relation = "lower_than"
	GreaterThan    Relation = "greater_than"
)

// SatisfactionRelation is the relation of a global satisfaction to its threshold.
// +kubebuilder:validation:Enum=greater_or_equal;equal;greater_than
type SatisfactionRelation string

// PowerRelation is a Relation, or the framework's lower_or_qqual, which means lower_or_equal.
// +kubebuilder:validation:Enum=lower_or_equal;lower_or_qqual;greater_or_equal;equal;lower_than;greater_than
type PowerRelation string

// Relation returns what r means.
func (r PowerRelation) Relation() Relation {
	if r == "lower_or_qqual" {
		return LowerOrEqual
	}
	return Relation(r)
}

// Criticality says how much harm is done when something is missing.
// +kubebuilder:validation:Enum=low;medium;high
type Criticality string

// ScalingMode says who changes the number of instances.
// +kubebuilder:validation:Enum=manual;auto
type ScalingMode string

// ScalingCriterion is what automatic scaling looks at.
// +kubebuilder:validation:Enum=min_cpu_utilization;max_cpu_utilization;min_memory_percent;max_memory_percent;min_requests_per_sec;max_request_per_sec;min_number_of_instances;max_number_of_instances
type ScalingCriterion string

// Redundancy says how many copies a bucket has.
// +kubebuilder:validation:Enum=high;one;none
type Redundancy string

// RestartPolicy is that of a Kubernetes pod.
// +kubebuilder:validation:Enum=Always;OnFailure;Never
type RestartPolicy string

// ImagePullPolicy is that of a Kubernetes container.
// +kubebuilder:validation:Enum=Always;Never;IfNotPresent
type ImagePullPolicy string

// TransportProtocol is that of a container's port.
// +kubebuilder:validation:Enum=UDP;TCP;SCTP
type TransportProtocol string

// NodeType says what stands between the system and the hardware.
// +kubebuilder:validation:Enum=virtualized;native;bare_metal
type NodeType string

// Availability says whether a node comes and goes.
// +kubebuilder:validation:Enum=transient;stable
type Availability string

// InteractionType says who offers the service: egress means that component_name1 calls component_name2, ingress the
// reverse.
// +kubebuilder:validation:Enum=ingress;egress
type InteractionType string

// InteractionMetricID is a measure of an interaction.
// +kubebuilder:validation:Enum=latency;bandwidth;end_to_end_invocation_delay
type InteractionMetricID string

// InteractionUnit is the unit of an interaction's metric.
// +kubebuilder:validation:Enum=milliseconds;Mbps;seconds
type InteractionUnit string

// AppAction is what policies may do to an application, or * for all of it.
// +kubebuilder:validation:Enum=component_relocation;traffic_redirection;change_container_image;change_container_runtime_class;change_container_cpu_set;change_container_resource_requirements;acceleration;"*"
type AppAction string

// NodeAction is what policies may do on a node, or * for all of it.
// +kubebuilder:validation:Enum=set_power_cap;traffic_redirection;acceleration;cpu_frequency;gpu_frequency;change_container_cpu_set;change_container_image;"*"
type NodeAction string

// InterfaceMode says how a wireless interface works.
// +kubebuilder:validation:Enum=infrastructure;adhoc
type InterfaceMode string

// EnergyUnit is a unit of energy: watt hours and their multiples.
// +kubebuilder:validation:Enum=wh;kwh;Mwh
type EnergyUnit string

// EmissionUnit is a unit of emitted CO2: kilotonnes for the energy.
// +kubebuilder:validation:Enum=kt/wh;kt/kwh;kt/Mwh
type EmissionUnit string

// PowerUnit is a unit of power.
// +kubebuilder:validation:Enum=w;kw;Mw
type PowerUnit string

// OnOff is the word on or off. YAML 1.1, which kubectl speaks, reads an unquoted one as a boolean, so that is taken too.
type OnOff bool

// MarshalJSON writes "on" or "off".
func (o OnOff) MarshalJSON() ([]byte, error) {
	if o {
		return []byte(`"on"`), nil
	}
	return []byte(`"off"`), nil
}

// UnmarshalJSON takes "on", "off", true and false; null changes nothing.
func (o *OnOff) UnmarshalJSON(raw []byte) error {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	switch v {
	case "on", true:
		*o = true
	case "off", false:
		*o = false
	case nil:
	default:
		return fmt.Errorf("%.40s: wanted on or off", raw)
	}
	return nil
}
