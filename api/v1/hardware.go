package v1

// Hardware is what a node has.
type Hardware struct {
	// CPU of a Linux system.
	CPU *CPU `json:"cpu,omitempty"`
	// MCU is a microcontroller.
	MCU *MCU `json:"mcu,omitempty"`
	// Memory in GB.
	Memory *int64 `json:"memory,omitempty"`
	// Disk in GB.
	Disk string `json:"disk,omitempty"`
	// GPU of the node.
	GPU *GPU `json:"gpu,omitempty"`
	// FPGA of the node.
	FPGA *FPGA `json:"fpga,omitempty"`
}

// CPU of a node.
type CPU struct {
	// Model of the CPU.
	Model string `json:"model,omitempty"`
	// Architecture: amd64, arm64 or another, in Go's names.
	Architecture Word `json:"architecture,omitempty"`
	// Cores is how many there are.
	Cores *int64 `json:"cores,omitempty"`
	// Frequency lists those that it can have, in Hz.
	Frequency []float64 `json:"frequency,omitempty"`
	// PerformanceIndicator is its mark in a benchmark.
	PerformanceIndicator *float64 `json:"performance_indicator,omitempty"`
}

// MCU is a microcontroller of a node.
type MCU struct {
	// Architecture: arm-M4 or another. A component spells it arm-m4.
	Architecture Word `json:"architecture,omitempty"`
	// Flash is a Kubernetes quantity.
	Flash string `json:"flash,omitempty"`
	// Cores is how many there are.
	Cores *int64 `json:"cores,omitempty"`
	// Frequency in GHz.
	Frequency *float64 `json:"frequency,omitempty"`
	// PerformanceIndicator is its mark in a benchmark.
	PerformanceIndicator *float64 `json:"performance_indicator,omitempty"`
}

// GPU of a node.
type GPU struct {
	// Model: k80, k40 or another.
	Model Word `json:"model,omitempty"`
	// Memory in GB.
	Memory *int64 `json:"memory,omitempty"`
	// Instances is how many there are.
	Instances *float64 `json:"instances,omitempty"`
	// PerformanceIndicator is its mark in a benchmark.
	PerformanceIndicator *float64 `json:"performance_indicator,omitempty"`
}

// FPGA of a node.
type FPGA struct {
	// Model: zcu102 or another.
	Model Word `json:"model,omitempty"`
	// Memory in GB.
	Memory *int64 `json:"memory,omitempty"`
	// PerformanceIndicator is its mark in a benchmark.
	PerformanceIndicator *float64 `json:"performance_indicator,omitempty"`
}

// NetworkResources are the network interfaces of a node.
type NetworkResources struct {
	// BasicInterface is for control and, unless traffic is redirected, for data.
	BasicInterface *BasicInterface `json:"basic_interface,omitempty"`
	// RedirectionInterface lists those that application traffic can be sent through.
	RedirectionInterface []RedirectionInterface `json:"redirection_interface,omitempty"`
}

// BasicInterface is the interface that a node is reached by.
type BasicInterface struct {
	// Name: 4g, 5g, wifi, bluetooth, lora, zigbee, ethernet or another.
	Name Word `json:"name,omitempty"`
	// Range in metres.
	Range *float64 `json:"range,omitempty"`
	// InterfaceName is its name in the system.
	InterfaceName string `json:"interface_name,omitempty"`
	// ApplicationTrafficPermission says that applications may use it.
	ApplicationTrafficPermission *bool `json:"application_traffic_permission,omitempty"`
}

// RedirectionInterface is an interface that application traffic can be sent through.
type RedirectionInterface struct {
	// ConnectionType: 4g, 5g, wifi, bluetooth, lora, zigbee, ethernet or another.
	ConnectionType Word `json:"connection_type"`
	// Range in metres.
	Range *float64 `json:"range,omitempty"`
	// InterfaceName is its name in the system.
	InterfaceName string `json:"interface_name,omitempty"`
	// Mode says how it works.
	Mode InterfaceMode `json:"mode,omitempty"`
	// HardwareAddress of the interface.
	HardwareAddress string `json:"hardware_address,omitempty"`
	// PairingInfo is what a peer needs to reach it.
	PairingInfo *PairingInfo `json:"pairing_info,omitempty"`
}

// PairingInfo is what a peer needs to reach an interface.
type PairingInfo struct {
	// IPAddress of the interface.
	IPAddress string `json:"ip_address,omitempty"`
	// NetworkSSID is the name of its network.
	NetworkSSID string `json:"network_ssid,omitempty"`
	// NetKey is the key of its network, readable by whoever may read the object.
	NetKey string `json:"net_key,omitempty"`
}

// Power says what a node draws and may draw.
type Power struct {
	// Target is what is aimed at.
	Target *PowerTarget `json:"target,omitempty"`
	// MaxConsumption is the most that it draws.
	MaxConsumption *MaxConsumption `json:"max_consumption,omitempty"`
	// Grid says that it is on the grid.
	Grid *bool `json:"grid,omitempty"`
	// Renewable lists its own sources.
	Renewable []RenewableSource `json:"renewable,omitempty"`
	// Battery of the node.
	Battery *Battery `json:"battery,omitempty"`
}

// PowerTarget is what is aimed at.
type PowerTarget struct {
	// Consumption of energy.
	Consumption *EnergyTarget `json:"consumption,omitempty"`
	// Cost of energy.
	Cost *EnergyTarget `json:"cost,omitempty"`
	// CO2Emission for the energy.
	CO2Emission *EmissionTarget `json:"co2_emission,omitempty"`
}

// EnergyTarget is a target for energy.
type EnergyTarget struct {
	// Value to hold.
	Value *float64 `json:"value,omitempty"`
	// Relation is how the measured value has to stand to value.
	Relation PowerRelation `json:"relation,omitempty"`
	// MeasurementUnit is the unit of value.
	MeasurementUnit EnergyUnit `json:"measurement_unit,omitempty"`
}

// EmissionTarget is a target for emitted CO2.
type EmissionTarget struct {
	// Value to hold.
	Value *float64 `json:"value,omitempty"`
	// MeasurementUnit is the unit of value.
	MeasurementUnit EmissionUnit `json:"measurement_unit,omitempty"`
	// Relation is how the measured value has to stand to value.
	Relation PowerRelation `json:"relation,omitempty"`
}

// MaxConsumption is the most that a node draws.
type MaxConsumption struct {
	// Value in measurement_unit.
	Value *float64 `json:"value,omitempty"`
	// MeasurementUnit is the unit of value.
	MeasurementUnit PowerUnit `json:"measurement_unit,omitempty"`
}

// RenewableSource is a source of energy of a node's own.
type RenewableSource struct {
	// Name: solar_panel or another.
	Name Word `json:"name,omitempty"`
	// Production is what it yields.
	Production *Levels `json:"production,omitempty"`
}

// Battery of a node.
type Battery struct {
	// Capacity of the battery.
	Capacity *Levels `json:"capacity,omitempty"`
}

// Levels are amounts of energy.
type Levels struct {
	// Levels in measurement_unit.
	Levels []float64 `json:"levels,omitempty"`
	// MeasurementUnit: wh or another.
	MeasurementUnit Word `json:"measurement_unit,omitempty"`
}
