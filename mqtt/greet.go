package mqtt

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Greet says CONNECT over conn and waits for the CONNACK, then leaves politely: a check that a broker is one, and takes
// this client. It does take over a session of the same client id [MQTT-3.1.4-2].
func Greet(ctx context.Context, conn net.Conn, clientID string) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(10 * time.Second)
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("greet broker: %w", err)
	}
	hello, ok := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	if !ok {
		return fmt.Errorf("greet broker: library makes no CONNECT packet")
	}
	hello.ProtocolName, hello.ProtocolVersion = "MQTT", 4
	hello.CleanSession, hello.ClientIdentifier, hello.Keepalive = true, clientID, 30
	if err := hello.Write(conn); err != nil {
		return fmt.Errorf("send CONNECT: %w", err)
	}
	reply, err := packets.ReadPacket(conn)
	if err != nil {
		return fmt.Errorf("wait for CONNACK: %w", err)
	}
	ack, ok := reply.(*packets.ConnackPacket)
	if !ok {
		return fmt.Errorf("wait for CONNACK: broker answers %T", reply)
	}
	if ack.ReturnCode != packets.Accepted { // [MQTT-3.2.2-4]
		return fmt.Errorf("broker refuses CONNECT: %s (code %d)", packets.ConnackReturnCodes[ack.ReturnCode], ack.ReturnCode)
	}
	if err := packets.NewControlPacket(packets.Disconnect).Write(conn); err != nil {
		return fmt.Errorf("send DISCONNECT: %w", err)
	}
	return nil
}
