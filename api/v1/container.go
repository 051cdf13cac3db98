package v1

// Container is one container of a component.
type Container struct {
	// Image reference.
	Image string `json:"image,omitempty"`
	// Command in place of the image's own.
	Command []string `json:"command,omitempty"`
	// ImagePullPolicy is Always for the tag latest and IfNotPresent for any other when unset.
	ImagePullPolicy ImagePullPolicy `json:"image_pull_policy,omitempty"`
	// AccelerationAPI lists the accelerated calls that it makes.
	AccelerationAPI []AcceleratedCall `json:"acceleration_api,omitempty"`
	// PlatformRequirements are the hardware that it needs.
	PlatformRequirements *PlatformRequirements `json:"platform_requirements,omitempty"`
	// Ports that it listens on.
	Ports []ContainerPort `json:"ports,omitempty"`
	// Env is its environment.
	Env []EnvVar `json:"env,omitempty"`
}

// AcceleratedCall is a call that runs on an accelerator where there is one.
type AcceleratedCall struct {
	// CallName: calc_optical_flow, image_inference or another.
	CallName Word `json:"call_name"`
	// RequiredFramework: pytorch, tensorflow, opencl, * for any, or another.
	RequiredFramework Word `json:"required_framework,omitempty"`
}

// PlatformRequirements are the hardware that a container needs.
type PlatformRequirements struct {
	// CPU of a Linux system.
	CPU *CPURequirement `json:"cpu,omitempty"`
	// Memory of a Linux system.
	Memory *MemoryRequirement `json:"memory,omitempty"`
	// MCU is a microcontroller.
	MCU *MCURequirement `json:"mcu,omitempty"`
	// Disk in GB.
	Disk string `json:"disk,omitempty"`
	// GPU that is needed.
	GPU *GPURequirement `json:"gpu,omitempty"`
	// FPGA that is needed.
	FPGA *FPGARequirement `json:"fpga,omitempty"`
}

// CPURequirement is what is asked of a CPU.
type CPURequirement struct {
	// Requests is a Kubernetes quantity, such as 250m.
	Requests string `json:"requests,omitempty"`
	// Limits is a Kubernetes quantity.
	Limits string `json:"limits,omitempty"`
	// Architecture that would do: arm64, amd64 or another, in Go's names.
	Architecture []Word `json:"architecture,omitempty"`
	// Frequency in Hz, at least.
	Frequency *float64 `json:"frequency,omitempty"`
	// PerformanceIndicator is a mark in a benchmark, at least.
	PerformanceIndicator *float64 `json:"performance_indicator,omitempty"`
}

// MemoryRequirement is how much memory is needed.
type MemoryRequirement struct {
	// Requests is a Kubernetes quantity, such as 64Mi.
	Requests string `json:"requests,omitempty"`
	// Limits is a Kubernetes quantity.
	Limits string `json:"limits,omitempty"`
}

// MCURequirement is what is asked of a microcontroller.
type MCURequirement struct {
	// Requests is a Kubernetes quantity.
	Requests string `json:"requests,omitempty"`
	// Limits is a Kubernetes quantity.
	Limits string `json:"limits,omitempty"`
	// Architecture that would do: arm-m4 or another. A node spells it arm-M4.
	Architecture []Word `json:"architecture,omitempty"`
	// Flash is a Kubernetes quantity.
	Flash string `json:"flash,omitempty"`
	// Frequency in GHz, at least.
	Frequency *float64 `json:"frequency,omitempty"`
	// PerformanceIndicator is a mark in a benchmark, at least.
	PerformanceIndicator *float64 `json:"performance_indicator,omitempty"`
}

// GPURequirement is what is asked of GPUs.
type GPURequirement struct {
	// Requests is how many are needed.
	Requests *int64 `json:"requests,omitempty"`
	// Limits is how many there may be.
	Limits *int64 `json:"limits,omitempty"`
	// Model: k80, k40 or another.
	Model Word `json:"model,omitempty"`
	// Memory in GB, at least.
	Memory *int64 `json:"memory,omitempty"`
	// UtilizationRequest is the share that is needed.
	UtilizationRequest string `json:"utilization_request,omitempty"`
	// PerformanceIndicator is a mark in a benchmark, at least.
	PerformanceIndicator *float64 `json:"performance_indicator,omitempty"`
}

// FPGARequirement is what is asked of an FPGA.
type FPGARequirement struct {
	// Model: zcu102 or another.
	Model Word `json:"model,omitempty"`
	// Memory in GB, at least.
	Memory *int64 `json:"memory,omitempty"`
	// UtilizationRequest is the share that is needed.
	UtilizationRequest string `json:"utilization_request,omitempty"`
	// PerformanceIndicator is a mark in a benchmark, at least.
	PerformanceIndicator *float64 `json:"performance_indicator,omitempty"`
}

// ContainerPort is a port that a container listens on.
type ContainerPort struct {
	// ContainerPort is the port inside the container.
	ContainerPort *int64 `json:"container_port,omitempty"`
	// HostIP is the node's address that it is bound to.
	HostIP string `json:"host_ip,omitempty"`
	// HostPort is the port on the node.
	HostPort *int64 `json:"host_port,omitempty"`
	// Name of the port.
	Name string `json:"name,omitempty"`
	// Protocol is TCP when unset.
	Protocol TransportProtocol `json:"protocol,omitempty"`
}

// EnvVar is a variable of the environment.
type EnvVar struct {
	// Name of the variable.
	Name string `json:"name,omitempty"`
	// ValueFrom says where its value comes from.
	ValueFrom *EnvSource `json:"value_from,omitempty"`
	// Value is its value as it stands.
	Value string `json:"value,omitempty"`
}

// EnvSource says where a variable's value comes from.
type EnvSource struct {
	// FieldRef is a field of the pod.
	FieldRef *FieldRef `json:"field_ref,omitempty"`
}

// FieldRef is a field of the pod.
type FieldRef struct {
	// FieldPath of Kubernetes' downward API, such as status.hostIP.
	FieldPath string `json:"field_path,omitempty"`
}
