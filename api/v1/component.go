package v1

// Component is a part of an application that is placed as one.
type Component struct {
	// Metadata names the component.
	Metadata ComponentMetadata `json:"metadata"`
	// NodePlacement says what is asked of its node.
	NodePlacement *NodePlacement `json:"node_placement,omitempty"`
	// DependsOn names the components that have to run before it starts.
	DependsOn []string `json:"depends_on,omitempty"`
	// RuntimeConfiguration is a file of settings that can change while the component runs.
	RuntimeConfiguration *RuntimeConfiguration `json:"runtime_configuration,omitempty"`
	// Sensors that it needs.
	Sensors []SensorRequest `json:"sensors,omitempty"`
	// QoSMetrics are what is expected of it.
	QoSMetrics []QoSMetric `json:"qos_metrics,omitempty"`
	// Storage that it uses.
	Storage *Storage `json:"storage,omitempty"`
	// DataSensitivity says that its data must not go anywhere.
	DataSensitivity *bool `json:"data_sensitivity,omitempty"`
	// DataCriticality says how much harm is done when its data is lost.
	DataCriticality Criticality `json:"data_criticality,omitempty"`
	// ExternalComponent says that it is deployed but not managed.
	ExternalComponent *bool `json:"external_component,omitempty"`
	// ExternalAccess says that it is reached from outside the cluster.
	ExternalAccess *bool `json:"external_access,omitempty"`
	// HostNetwork gives it the network of its node; false when unset.
	HostNetwork *bool `json:"host_network,omitempty"`
	// RuntimeClassName is the Kubernetes runtime class: nvidia, default, kata-fc, kata-dragon, urunc, crun, lunatic,
	// nvidia-experimental, spin, wasmedge, slight or another.
	RuntimeClassName Word `json:"runtime_class_name,omitempty"`
	// RestartPolicy is Always when unset.
	RestartPolicy RestartPolicy `json:"restart_policy,omitempty"`
	// OS that the node has to have: ubuntu, kali, zephyr or another.
	OS Word `json:"os,omitempty"`
	// NodeType that the node has to be of.
	NodeType NodeType `json:"node_type,omitempty"`
	// ContainerRuntime that the node has to have: containerd, docker, emb_serve or another.
	ContainerRuntime Word `json:"container_runtime,omitempty"`
	// Containers of the component.
	Containers []Container `json:"containers"`
}

// ComponentMetadata names a component.
type ComponentMetadata struct {
	// Name within the application.
	Name string `json:"name,omitempty"`
	// UID of the component, for ever.
	UID string `json:"uid,omitempty"`
}

// RuntimeConfiguration is a file of settings that can change while a component runs.
type RuntimeConfiguration struct {
	// ConfigSpecificationFile describes the settings, in JSON.
	ConfigSpecificationFile string `json:"config_specification_file,omitempty"`
	// ConfigFilePath is the absolute path of the settings inside the container.
	ConfigFilePath string `json:"config_file_path,omitempty"`
}

// SensorRequest is a sensor that a component needs.
type SensorRequest struct {
	// Camera that is needed.
	Camera *CameraRequest `json:"camera,omitempty"`
	// Temperature sensor; model: sdc30, ds18b20 or another; measurement_unit: celsius, fahrenheit or another.
	Temperature *Sensor `json:"temperature,omitempty"`
	// Accelerometer; model: 3038-smt or another; measurement_unit: m/s^2 or another.
	Accelerometer *Sensor `json:"accelerometer,omitempty"`
	// Barometer; model: sb-100 or another; measurement_unit: pa or another.
	Barometer *Sensor `json:"barometer,omitempty"`
	// AirQuality sensor; model: mq-135 or another; measurement_unit: ug/m^3 or another.
	AirQuality *Sensor `json:"air_quality,omitempty"`
	// EndpointVariable names the environment variable that gets the sensor's endpoint.
	EndpointVariable string `json:"endpoint_variable,omitempty"`
	// Protocol of the endpoint: MQTT, RTSP or another.
	Protocol Word `json:"protocol,omitempty"`
	// Instances is how many are needed.
	Instances *float64 `json:"instances,omitempty"`
}

// CameraRequest is a camera that a component needs.
type CameraRequest struct {
	// Model: d455, imx477, picamera-v2 or another.
	Model Word `json:"model,omitempty"`
	// CameraType: rgb, nir, thermal, monocular or another.
	CameraType Word `json:"camera_type,omitempty"`
	// MinimumFramerate in frames for each second.
	MinimumFramerate *int64 `json:"minimum_framerate,omitempty"`
	// Resolution in pixels: 1024x768, 4056x3040 or another.
	Resolution Resolution `json:"resolution,omitempty"`
}

// Sensor is a sensor for one quantity.
type Sensor struct {
	// Model of the sensor.
	Model Word `json:"model,omitempty"`
	// MeasurementMin is the lowest value that it measures.
	MeasurementMin *float64 `json:"measurement_min,omitempty"`
	// MeasurementMax is the highest value that it measures.
	MeasurementMax *float64 `json:"measurement_max,omitempty"`
	// MeasurementUnit is the unit of its values.
	MeasurementUnit Word `json:"measurement_unit,omitempty"`
	// Accuracy in that unit.
	Accuracy *float64 `json:"accuracy,omitempty"`
	// SamplingFrequency in hertz.
	SamplingFrequency *float64 `json:"sampling_frequency,omitempty"`
}

// QoSMetric is what is expected of a component.
type QoSMetric struct {
	// ApplicationMetricID is the name of a metric that the component reports.
	ApplicationMetricID string `json:"application_metric_id,omitempty"`
	// Target is the value to hold.
	Target *float64 `json:"target,omitempty"`
	// Relation is how the measured value has to stand to target.
	Relation Relation `json:"relation,omitempty"`
	// SystemMetricsHints are what of the system the metric depends on: cpu_frequency or another.
	SystemMetricsHints []Word `json:"system_metrics_hints,omitempty"`
}

// Storage is what a component stores outside its node.
type Storage struct {
	// Buckets of an object store.
	Buckets []Bucket `json:"buckets,omitempty"`
}

// Bucket is a bucket of an object store.
type Bucket struct {
	// BucketID names the bucket.
	BucketID string `json:"bucket_id"`
	// PolicyUpdateToken is what permits changing the bucket's policy.
	PolicyUpdateToken string `json:"policy_update_token,omitempty"`
	// LocationRestrictions limit where its data may lie.
	LocationRestrictions *LocationRestrictions `json:"location_restrictions,omitempty"`
	// Redundancy says how many copies there are. The field's spelling is the framework's.
	Redundancy Redundancy `json:"reduncancy,omitempty"`
	// MaxLatency in milliseconds.
	MaxLatency *float64 `json:"max_latency,omitempty"`
	// MinDownloadSpeed in Mbit/s.
	MinDownloadSpeed *float64 `json:"min_download_speed,omitempty"`
	// ServerSideEncryption is on or off. A boolean is taken too, for YAML 1.1 makes one of an unquoted word.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Enum="on";"off";true;false
	ServerSideEncryption *OnOff `json:"server_side_encryption,omitempty"`
}

// LocationRestrictions limit where data may lie.
type LocationRestrictions struct {
	// GDPR says that it has to lie where the regulation holds.
	GDPR *bool `json:"gdpr,omitempty"`
}
