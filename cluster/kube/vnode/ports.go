package vnode

import (
	"context"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/bridge"
)

// Devices are those that this cluster agent acts for.
type Devices interface {
	// Device returns nil for one that is not enrolled. What it returns is not to be changed.
	Device(id string) *api.Node
	// Watch calls changed with every id at first and then whenever one changes or goes, until ctx ends. Changes of one device may be
	// joined; changed does not block.
	Watch(ctx context.Context, changed func(id string)) error
	// Pressure is what the newest telemetry says.
	Pressure(id string) bridge.Pressure
}

// Documents are what the devices should be.
type Documents interface {
	// Workloads of the desired document of a device.
	Workloads(id string) ([]api.Workload, error)
	// SetWorkloads puts others in their place, by what change makes of those that are there; it may be called more than once.
	SetWorkloads(id string, change func([]api.Workload) []api.Workload) error
	// Seal encrypts s for a device. Its ID is the same for the same content and key, although the ciphertext is not.
	Seal(id, workload string, s *api.Secrets) (*api.Sealed, error)
}
