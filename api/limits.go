package api

// The limits of wire version 1. A message beyond them is refused before anything is allocated for its content.
const (
	MaxMessageBytes = 128 << 10 // one MQTT payload
	MaxDepth        = 8         // nesting of objects and arrays
	MaxFrameBytes   = 16 << 10  // one stream frame, encoded
	MaxFrameData    = 15 << 10  // the data within a frame: leaves room for its envelope
	MaxIDLength     = 63
	MaxReasonBytes  = 1 << 10
	MaxOutputBytes  = 32 << 10 // command output kept in a final status
	MaxSeries       = 4096     // series in one telemetry batch
	MaxRows         = 4096     // rows in one telemetry batch
	MaxSeriesBytes  = 512      // one series name with its labels
	MaxLabels       = 64
	MaxLabelBytes   = 256
	MaxOpenCommands = 256
	MaxArgsBytes    = 64 << 10
	MaxVerbs        = 128
	MaxSensors      = 256
	MaxWorkloads    = 256
	MaxPEMBytes     = 16 << 10 // a certificate, request or bundle in PEM
)
