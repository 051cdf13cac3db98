package outbox

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"hash/fnv"

	"github.com/skerry-edge/skerry/api"
)

// A record is a header and a payload; both tiers store it in the same form. The header has a checksum of its own, so
// that a damaged payload still tells what was lost and where the next record begins.
//
//	 0 magic "SK", version, kind, class, quality, rows (2)
//	 8 epoch, seq, at, end, mono, boot (8 each)
//	56 samples, shape, payload length, CRC-32C of the payload, CRC-32C of the header before it (4 each)
//
// All little-endian.
const (
	headerBytes   = 76
	recordVersion = 1
	magic0        = 'S'
	magic1        = 'K'
	maxPayload    = api.MaxMessageBytes
)

// kind is what a record says.
type kind uint8

const (
	kindBatch kind = iota + 1 // payload: api.Batch as JSON
	kindEvent                 // payload: api.Event as JSON
	kindAck                   // everything of class's stream and epoch up to seq is acknowledged
	kindGone                  // exactly one record was dropped or merged into another
	kindState                 // payload: state as JSON; the highest version wins
)

// stream is one of the two numbered sequences of an epoch.
type stream uint8

const (
	tele stream = iota
	events
	streams // how many there are
)

// class orders records by how precious they are.
type class uint8

const (
	classTelemetry class = iota
	classEvent
	classAlarm
	classes // how many there are
)

func (c class) stream() stream {
	if c == classTelemetry {
		return tele
	}
	return events
}

// quality is api.TimeQuality in one byte.
type quality uint8

const (
	qualityFloor quality = iota
	qualityHinted
	qualitySynced
)

func qualityOf(q api.TimeQuality) quality {
	switch q {
	case api.TimeSynced:
		return qualitySynced
	case api.TimeHinted:
		return qualityHinted
	}
	return qualityFloor
}

// key orders records of a stream.
type key struct{ epoch, seq uint64 }

func (k key) less(o key) bool { return k.epoch < o.epoch || k.epoch == o.epoch && k.seq < o.seq }

func compareKeys(a, b key) int {
	switch {
	case a.less(b):
		return -1
	case b.less(a):
		return 1
	}
	return 0
}

// meta is what every decision is made from: the header of a record. at and end are the instants of the first and last
// row in milliseconds since 1970, mono the boot clock at T0 in milliseconds, boot a digest of the boot id, shape a digest
// of the series names.
type meta struct {
	kind    kind
	class   class
	quality quality
	rows    uint16
	key
	at, end, mono int64
	boot          uint64
	samples       uint32
	shape         uint32
	size          uint32 // of the payload
}

// bytes is what the record takes in a file.
func (m *meta) bytes() int64 { return headerBytes + int64(m.size) }

// record is a decoded frame.
type record struct {
	meta
	payload []byte
	sum     uint32 // what the header says of the payload; set by parsing
}

// bootDigest makes boot ids comparable in eight bytes.
func bootDigest(boot string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(boot))
	return h.Sum64()
}

// shapeDigest makes lists of series comparable in four bytes; equal digests still need a look at the names.
func shapeDigest(series []string) uint32 {
	h := fnv.New32a()
	for _, s := range series {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return h.Sum32()
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// appendRecord appends the frame of r to buf.
func appendRecord(buf []byte, r *record) []byte {
	start := len(buf)
	le := binary.LittleEndian
	buf = append(buf, magic0, magic1, recordVersion, byte(r.kind), byte(r.class), byte(r.quality))
	buf = le.AppendUint16(buf, r.rows)
	for _, v := range [...]uint64{r.epoch, r.seq, uint64(r.at), uint64(r.end), uint64(r.mono), r.boot} {
		buf = le.AppendUint64(buf, v)
	}
	for _, v := range [...]uint32{r.samples, r.shape, uint32(len(r.payload)), checksum(r.payload)} {
		buf = le.AppendUint32(buf, v)
	}
	buf = le.AppendUint32(buf, checksum(buf[start:]))
	return append(buf, r.payload...)
}

var (
	errShort   = errors.New("record is cut short")
	errHeader  = errors.New("record header is damaged")
	errPayload = errors.New("record payload is damaged")
)

// parseHeader reads the header at the start of b and the checksum that the payload must have.
func parseHeader(b []byte) (m meta, sum uint32, err error) {
	if len(b) < headerBytes {
		return m, 0, errShort
	}
	le := binary.LittleEndian
	if b[0] != magic0 || b[1] != magic1 || b[2] != recordVersion || le.Uint32(b[72:]) != checksum(b[:72]) {
		return m, 0, errHeader
	}
	m = meta{kind: kind(b[3]), class: class(b[4]), quality: quality(b[5]), rows: le.Uint16(b[6:]),
		key: key{le.Uint64(b[8:]), le.Uint64(b[16:])}, at: int64(le.Uint64(b[24:])), end: int64(le.Uint64(b[32:])),
		mono: int64(le.Uint64(b[40:])), boot: le.Uint64(b[48:]),
		samples: le.Uint32(b[56:]), shape: le.Uint32(b[60:]), size: le.Uint32(b[64:])}
	if m.kind < kindBatch || m.kind > kindState || m.class >= classes || m.size > maxPayload {
		return m, 0, errHeader
	}
	return m, le.Uint32(b[68:]), nil
}

// parseRecord reads the record at the start of b. The payload shares b's memory. With errPayload or errShort and a
// non-zero kind the meta is good.
func parseRecord(b []byte) (record, error) {
	m, sum, err := parseHeader(b)
	if err != nil {
		return record{}, err
	}
	if int64(len(b)) < m.bytes() {
		return record{meta: m}, errShort
	}
	payload := b[headerBytes:m.bytes()]
	if checksum(payload) != sum {
		return record{meta: m}, errPayload
	}
	return record{meta: m, payload: payload, sum: sum}, nil
}
