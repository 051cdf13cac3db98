// Package agent is the skeleton that all tiers share: staged start and stop, backoff, a clock that can be trusted as
// far as it says, log keys, health and the service manager's protocol.
package agent
