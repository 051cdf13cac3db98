package broker

import (
	"io"
)

// intake cuts what a client sends into packets. It lives as long as there is something to read, and ends between two
// packets, so that a silent connection needs no buffer.
type intake struct {
	peer *peer
	buf  []byte
	have []byte // of buf: read, and not taken yet
}

// maxHeader is the longest fixed header: type, and four bytes of length [MQTT 2.2.3].
const maxHeader = 5

// frame returns how long the header of the first packet in data is, and the packet; 0 when there is too little to tell.
// Of one that is malformed or larger than limit, which is what mochi will say of it, it returns the header alone.
func frame(data []byte, limit int) (head, size int) {
	remaining := 0
	for i := 1; i < len(data); i++ {
		remaining |= int(data[i]&0x7f) << (7 * (i - 1))
		switch {
		case data[i]&0x80 == 0 && remaining+1 > limit:
			return i + 1, i + 1
		case data[i]&0x80 == 0:
			return i + 1, i + 1 + remaining
		case i == maxHeader-1:
			return i + 1, i + 1
		}
	}
	return 0, 0
}

// header waits for the header of a packet and returns it, with the packet's length. It returns errNothing when no
// packet has begun.
func (in *intake) header() ([]byte, int, error) {
	for {
		if head, size := frame(in.have, in.peer.broker.cfg.Limits.MaxPacketBytes); head > 0 {
			return in.have[:head], size, nil
		}
		if err := in.read(len(in.have) > 0); err != nil {
			return nil, 0, err
		}
	}
}

// take waits for a packet of size bytes and returns it. It is good until the next call.
func (in *intake) take(size int) ([]byte, error) {
	if size > len(in.buf) {
		large := make([]byte, size)
		in.have = large[:copy(large, in.have)]
		in.buf = large
	}
	for len(in.have) < size {
		if err := in.read(true); err != nil {
			return nil, err
		}
	}
	packet := in.have[:size]
	in.have = in.have[size:]
	return packet, nil
}

// read adds what there is to have; wait says that it is not enough to find nothing.
func (in *intake) read(wait bool) error {
	n := copy(in.buf, in.have) // where it lies already, or before it
	in.peer.socket.eager = !wait
	more, err := in.peer.Conn.Read(in.buf[n:])
	in.peer.socket.eager = false
	in.have = in.buf[:n+more]
	if more > 0 {
		return nil // the next call tells again what ended the reading
	}
	return err
}

// Read gives mochi the packet that is there: of the connection itself it never reads, so it never waits.
func (p *peer) Read(data []byte) (int, error) {
	if len(p.packet) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(data, p.packet)
	p.packet = p.packet[n:]
	return n, nil
}
