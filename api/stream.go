package api

import (
	"errors"
	"fmt"
)

// FrameKind says what a stream frame does.
type FrameKind string

// The kinds. A side sends at most as many data bytes as it has been granted; the window starts at 0, so nobody speaks
// before the other side is there.
const (
	FrameData   FrameKind = "data"   // Data on Channel
	FrameCredit FrameKind = "credit" // grants Credit more bytes of data, summed over channels
	FrameEnd    FrameKind = "end"    // no more data on Channel
	FrameClose  FrameKind = "close"  // the whole stream is over; Error says why when it went wrong
)

// Frame is one message of a byte stream. Seq counts from 1 in each direction: a repeated frame is dropped (MQTT QoS 1
// delivers at least once), a gap ends the stream with an error.
type Frame struct {
	Seq     uint64    `json:"seq"`
	Kind    FrameKind `json:"kind"`
	Channel uint8     `json:"channel,omitempty"`
	Data    []byte    `json:"data,omitempty"`
	Credit  uint32    `json:"credit,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// The channels by custom, as in SSH and the kubelet's streams.
const (
	ChannelStdin  uint8 = 0
	ChannelStdout uint8 = 1
	ChannelStderr uint8 = 2
	ChannelError  uint8 = 3
	ChannelResize uint8 = 4
	MaxChannel    uint8 = 15
)

// Validate checks f as it arrives from the other side.
func (f *Frame) Validate() error {
	switch f.Kind {
	case FrameData:
		if len(f.Data) == 0 || len(f.Data) > MaxFrameData {
			return fmt.Errorf("data frame has %d bytes; wanted 1 to %d", len(f.Data), MaxFrameData)
		}
	case FrameCredit:
		if f.Credit == 0 {
			return errors.New("credit frame grants 0 bytes")
		}
	case FrameEnd, FrameClose:
	default:
		return fmt.Errorf("frame kind %q: wanted data, credit, end or close", f.Kind)
	}
	if f.Seq == 0 {
		return errors.New("seq is 0; the first frame is 1")
	}
	if f.Channel > MaxChannel {
		return fmt.Errorf("channel %d: wanted 0 to %d", f.Channel, MaxChannel)
	}
	return maxLen("error", f.Error, MaxReasonBytes)
}
