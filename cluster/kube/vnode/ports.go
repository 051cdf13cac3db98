package vnode

import (
	"context"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/bridge"
)

// Standing is what a device is to this cluster agent.
type Standing int

const (
	Unknown   Standing = iota // never heard of here, or restored from before: no reason to delete anything
	Here                      // this cluster agent acts for it
	Elsewhere                 // another replica does, or may
	Removed                   // an administrator removed it
)

// Devices are those that this cluster agent acts for.
type Devices interface {
	// Device tells how a device stands to this cluster agent, and returns it when it is Here. What it returns is not to be changed.
	Device(id string) (*api.Node, Standing)
	// Watch calls changed with every id at first and then whenever one changes or goes, until ctx ends. Changes of one device may be
	// joined; changed does not block.
	Watch(ctx context.Context, changed func(id string)) error
	// Pressure is what the newest telemetry says.
	Pressure(id string) bridge.Pressure
}

// Documents are what the devices should be.
type Documents interface {
	// Workloads of the desired document of a device, and how many bytes they may take in it as JSON, each with a comma.
	Workloads(id string) (list []api.Workload, room int, err error)
	// SetWorkloads puts others in their place, by what change makes of those that are there and of the room; it may be called more than
	// once.
	SetWorkloads(id string, change func(now []api.Workload, room int) []api.Workload) error
	// Seal encrypts s for a device. Its ID is the same for the same content and key, although the ciphertext is not.
	Seal(id, workload string, s *api.Secrets) (*api.Sealed, error)
}
