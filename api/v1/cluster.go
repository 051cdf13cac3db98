package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MLSysOpsCluster is a cluster and its nodes.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=mlsysopsclusters,singular=mlsysopscluster,shortName=mlscluster,categories=mlsysops,scope=Namespaced
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.cluster_id`
// +kubebuilder:printcolumn:name="Members",type=integer,JSONPath=`.status.members`
// +kubebuilder:printcolumn:name="Ready-Members",type=integer,JSONPath=`.status.readyMembers`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Datacenter",type=string,JSONPath=`.datacenter_id`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type MLSysOpsCluster struct {
	metav1.TypeMeta    `json:",inline"`
	metav1.ObjectMeta  `json:"metadata,omitempty"`
	ClusterDescription `json:",inline"`

	// Status is what the agents report.
	Status GroupStatus `json:"status,omitzero"`
}

// MLSysOpsClusterList is a list of clusters.
//
// +kubebuilder:object:root=true
type MLSysOpsClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MLSysOpsCluster `json:"items"`
}

// ClusterDescription is the description of a cluster. Its name is the object's.
type ClusterDescription struct {
	// ClusterID is what nodes and applications call the cluster by.
	ClusterID string `json:"cluster_id"`
	// DatacenterID is the datacenter that it stands in.
	DatacenterID string `json:"datacenter_id,omitempty"`
	// Nodes are the names of its nodes.
	Nodes []string `json:"nodes"`
}

// MLSysOpsContinuum is a continuum and its clusters.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=mlsysopscontinuums,singular=mlsysopscontinuum,shortName=mlscontinuum,categories=mlsysops,scope=Namespaced
// +kubebuilder:printcolumn:name="Continuum",type=string,JSONPath=`.continuum_id`
// +kubebuilder:printcolumn:name="Members",type=integer,JSONPath=`.status.members`
// +kubebuilder:printcolumn:name="Ready-Members",type=integer,JSONPath=`.status.readyMembers`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type MLSysOpsContinuum struct {
	metav1.TypeMeta      `json:",inline"`
	metav1.ObjectMeta    `json:"metadata,omitempty"`
	ContinuumDescription `json:",inline"`

	// Status is what the agents report.
	Status GroupStatus `json:"status,omitzero"`
}

// MLSysOpsContinuumList is a list of continuums.
//
// +kubebuilder:object:root=true
type MLSysOpsContinuumList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MLSysOpsContinuum `json:"items"`
}

// ContinuumDescription is the description of a continuum.
type ContinuumDescription struct {
	// ContinuumID names the continuum.
	ContinuumID string `json:"continuum_id"`
	// Clusters are the names of its clusters.
	Clusters []string `json:"clusters"`
}

// MLSysOpsDatacenter is a datacenter and where it stands.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=mlsysopsdatacenters,singular=mlsysopsdatacenter,shortName=mlsdatacenter,categories=mlsysops,scope=Namespaced
// +kubebuilder:printcolumn:name="Datacenter",type=string,JSONPath=`.datacenter_id`
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.cluster_id`
// +kubebuilder:printcolumn:name="Layer",type=string,JSONPath=`.continuum`
// +kubebuilder:printcolumn:name="Members",type=integer,JSONPath=`.status.members`
// +kubebuilder:printcolumn:name="Ready-Members",type=integer,JSONPath=`.status.readyMembers`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="City",type=string,JSONPath=`.city`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type MLSysOpsDatacenter struct {
	metav1.TypeMeta       `json:",inline"`
	metav1.ObjectMeta     `json:"metadata,omitempty"`
	DatacenterDescription `json:",inline"`

	// Status is what the agents report.
	Status GroupStatus `json:"status,omitzero"`
}

// MLSysOpsDatacenterList is a list of datacenters.
//
// +kubebuilder:object:root=true
type MLSysOpsDatacenterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MLSysOpsDatacenter `json:"items"`
}

// DatacenterDescription is the description of a datacenter.
type DatacenterDescription struct {
	// DatacenterID names the datacenter.
	DatacenterID string `json:"datacenter_id"`
	// ClusterID is the cluster that it belongs to.
	ClusterID string `json:"cluster_id"`
	// Continuum is the layer that it belongs to.
	Continuum Layer `json:"continuum"`
	// Nodes are the names of its nodes.
	Nodes []string `json:"nodes"`
	// Continent: europe, asia, africa, australia, north_america, south_america, antarctica or another. An application
	// spells it Europe.
	Continent Word `json:"continent,omitempty"`
	// Country by its code: el, it, fr, nl, ie, pt, dk, il or another.
	Country Word `json:"country,omitempty"`
	// City: volos, athens, rende, milan, lille, delft, dublin, aveiro, porto, aarhus, jerusalem or another.
	City Word `json:"city,omitempty"`
	// Location is longitude and latitude.
	Location []float64 `json:"location,omitempty"`
	// CloudProvider is whose machines they are: private, aws, microsoft_azure, gcp or another.
	CloudProvider Word `json:"cloud_provider,omitempty"`
}
