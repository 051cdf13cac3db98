package mqtt

import (
	"sync"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// maxAcks is how many messages there can be without their PUBACK: each has a packet id of its own [MQTT-2.3.1-2].
const maxAcks = 1<<16 - 1

// delivery is a message from its receipt to its PUBACK.
type delivery struct {
	packet *packets.PublishPacket // nil once handled: only its id is still wanted
	id     uint16
	done   bool
}

// acks owes the broker a PUBACK for each message of QoS 1, in the order of their receipt [MQTT-4.6.0-2], although shards
// finish in any order. One slow handler therefore holds up the acknowledgements behind it, but not the handling. Safe for
// concurrent use.
type acks struct {
	mu      sync.Mutex
	owed    []*delivery // the oldest first
	writing bool        // somebody writes what is done at the head
}

// expect enters d, unless limit others are owed.
func (a *acks) expect(d *delivery, limit int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.owed) >= limit {
		return false
	}
	a.owed = append(a.owed, d)
	return true
}

// finish notes that d was handled. It reports whether the caller has to write what next returns; else somebody does.
func (a *acks) finish(d *delivery) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	d.done, d.packet = true, nil
	if a.writing {
		return false
	}
	a.writing = true
	return true
}

// next takes the id at the head out if its message was handled. Without one the caller is no longer the writer.
func (a *acks) next() (id uint16, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.owed) == 0 || !a.owed[0].done {
		a.writing = false
		if len(a.owed) == 0 {
			a.owed = nil
		}
		return 0, false
	}
	id = a.owed[0].id
	a.owed[0] = nil
	a.owed = a.owed[1:]
	return id, true
}

// acknowledge tells the broker that a message was handled, once all those before it were.
func (s *Session) acknowledge(d *delivery) error {
	if d.packet.Qos == 0 || !s.acks.finish(d) {
		return nil
	}
	for id, ok := s.acks.next(); ok; id, ok = s.acks.next() {
		p := &packets.PubackPacket{FixedHeader: packets.FixedHeader{MessageType: packets.Puback, RemainingLength: 2}, MessageID: id}
		if err := s.write(p); err != nil {
			return err
		}
	}
	return nil
}
