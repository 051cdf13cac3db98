package v1

// NodeSensor is a sensor that a node has.
type NodeSensor struct {
	// Camera of the node.
	Camera *NodeCamera `json:"camera,omitempty"`
	// Temperature sensor; model: sdc30, ds18b20 or another; measurement_unit: celsius, fahrenheit or another.
	Temperature *CountedSensor `json:"temperature,omitempty"`
	// Accelerometer; model: 3038-smt or another; measurement_unit: m/s^2 or another.
	Accelerometer *Sensor `json:"accelerometer,omitempty"`
	// Humidity sensor.
	Humidity *RangedSensor `json:"humidity,omitempty"`
	// Sound sensor.
	Sound *RangedSensor `json:"sound,omitempty"`
	// CO2 sensor.
	CO2 *RangedSensor `json:"co2,omitempty"`
	// Barometer; model: sb-100 or another; measurement_unit: pa or another.
	Barometer *Sensor `json:"barometer,omitempty"`
	// AirQuality sensor; model: mq-135 or another; measurement_unit: ug/m^3 or another.
	AirQuality *Sensor `json:"air_quality,omitempty"`
	// Instances is how many there are.
	Instances *float64 `json:"instances,omitempty"`
	// Protocol of the endpoint: MQTT, RTSP or another.
	Protocol Word `json:"protocol,omitempty"`
	// Endpoint at which components read the sensor.
	Endpoint string `json:"endpoint,omitempty"`
}

// NodeCamera is a camera of a node.
type NodeCamera struct {
	// Instances is how many there are.
	Instances *int64 `json:"instances,omitempty"`
	// Model: imx415, imx219, d455, imx477, picamera-v2 or another.
	Model Word `json:"model,omitempty"`
	// CameraType: rgb, nir, thermal, monocular or another.
	CameraType string `json:"camera_type,omitempty"`
	// Framerate in frames for each second.
	Framerate *int64 `json:"framerate,omitempty"`
	// SupportedResolutions in pixels: 1024x768, 4056x3040 or another.
	SupportedResolutions []Resolution `json:"supported_resolutions,omitempty"`
}

// CountedSensor is a sensor for one quantity, and how many there are.
type CountedSensor struct {
	// Instances is how many there are.
	Instances *int64 `json:"instances,omitempty"`
	Sensor    `json:",inline"`
}

// RangedSensor is a sensor for one quantity that can sample at various rates.
type RangedSensor struct {
	// Model of the sensor.
	Model string `json:"model,omitempty"`
	// MeasurementMin is the lowest value that it measures.
	MeasurementMin *float64 `json:"measurement_min,omitempty"`
	// MeasurementMax is the highest value that it measures.
	MeasurementMax *float64 `json:"measurement_max,omitempty"`
	// MeasurementUnit is the unit of its values.
	MeasurementUnit string `json:"measurement_unit,omitempty"`
	// Accuracy in that unit.
	Accuracy *float64 `json:"accuracy,omitempty"`
	// SamplingFrequency in hertz, from and to.
	SamplingFrequency *FrequencyRange `json:"sampling_frequency,omitempty"`
}

// FrequencyRange is a range of frequencies in hertz.
type FrequencyRange struct {
	// Min is the lowest.
	Min *float64 `json:"min,omitempty"`
	// Max is the highest.
	Max *float64 `json:"max,omitempty"`
}
