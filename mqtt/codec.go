package mqtt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/skerry-edge/skerry/api"
)

// Encoding is how a message becomes bytes. Both have the same shape; a decoder tells them by the first byte.
type Encoding uint8

// The encodings. Zero is JSON.
const (
	JSON Encoding = iota
	CBOR          // RFC 8949, preferred serialization
)

// ParseEncoding reads "json" or "cbor".
func ParseEncoding(s string) (Encoding, error) {
	switch s {
	case "json":
		return JSON, nil
	case "cbor":
		return CBOR, nil
	}
	return JSON, fmt.Errorf("encoding %q: wanted json or cbor", s)
}

// Codec encodes and decodes messages. It is made once and is safe for concurrent use.
type Codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

// NewCodec returns a codec with the limits of package api.
func NewCodec() (*Codec, error) {
	enc, err := cbor.EncOptions{
		Sort:          cbor.SortBytewiseLexical, // one message, one encoding (RFC 8949 §4.2.1), whatever order a map has
		ShortestFloat: cbor.ShortestFloat16,
		TextMarshaler: cbor.TextMarshalerTextString,
	}.EncMode()
	if err != nil {
		return nil, fmt.Errorf("set up cbor encoder: %w", err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   api.MaxDepth,
		MaxArrayElements:  16 << 10,
		MaxMapPairs:       maxKeys,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		UTF8:              cbor.UTF8RejectInvalid,
		TextUnmarshaler:   cbor.TextUnmarshalerTextString,
		DefaultMapType:    mapType,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}.DecMode()
	if err != nil {
		return nil, fmt.Errorf("set up cbor decoder: %w", err)
	}
	return &Codec{enc: enc, dec: dec}, nil
}

// Encode returns v in encoding e.
func (c *Codec) Encode(e Encoding, v any) ([]byte, error) {
	if e == JSON {
		return marshal(v)
	}
	if b, ok := v.(*api.Batch); ok {
		v = toWire(b)
	}
	return c.enc.Marshal(v)
}

// marshal is json.Marshal without its escapes of <, > and &, which are for HTML pages.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}), nil
}

// Message is a noun that can be decoded from the wire.
type Message interface{ Validate() error }

// Decode reads data, in either encoding, into v and validates it. It refuses what is longer than the contract's limit
// of kind, nested deeper than api.MaxDepth, has a key twice, or has anything after the message. Fields that v does not
// have are ignored, except in a Request, which people type.
func (c *Codec) Decode(kind Kind, data []byte, v Message) error {
	entry, ok := EntryOf(kind)
	if !ok {
		return fmt.Errorf("decode message kind %d: no such kind", kind)
	}
	if len(data) > entry.MaxBytes {
		return fmt.Errorf("decode %s: %d bytes; wanted at most %d", entry.Name, len(data), entry.MaxBytes)
	}
	if err := c.decode(data, v, kind == KindRequest); err != nil {
		return fmt.Errorf("decode %s: %w", entry.Name, err)
	}
	return nil
}

// decode is Decode without the limit of a kind.
func (c *Codec) decode(data []byte, v Message, closed bool) error {
	var err error
	switch {
	case len(data) == 0:
		return errors.New("empty payload; wanted a JSON object or a CBOR map")
	case data[0]>>5 == 5: // CBOR major type 5, a map; 0xA0 to 0xBF begin no JSON text
		err = c.decodeCBOR(data, v, closed)
	default:
		err = decodeText(data, v, closed)
	}
	if err != nil {
		return err
	}
	return v.Validate()
}

// decodeText is decodeJSON with a faster way for batches. Like their CBOR, it replaces all of v.
func decodeText(data []byte, v any, closed bool) error {
	b, ok := v.(*api.Batch)
	if !ok {
		return decodeJSON(data, v, closed)
	}
	if fast, ok := ReadBatch(data); ok {
		*b = *fast
		return nil
	}
	*b = api.Batch{}
	return decodeJSON(data, b, closed)
}

func decodeJSON(data []byte, v any, closed bool) error {
	if err := CheckJSON(data); err != nil {
		return err
	}
	if !closed {
		return json.Unmarshal(data, v)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

func (c *Codec) decodeCBOR(data []byte, v any, closed bool) error {
	if b, ok := v.(*api.Batch); ok {
		if fast, ok := readBatchCBOR(data); ok {
			*b = *fast
			return nil
		}
		var w wireBatch
		if err := c.dec.Unmarshal(data, &w); err != nil {
			return err
		}
		return w.to(b)
	}
	if !closed {
		return c.dec.Unmarshal(data, v)
	}
	// A closed message is small and rare: its CBOR form is checked by way of JSON, which names the unknown field.
	var doc map[string]any
	if err := c.dec.Unmarshal(data, &doc); err != nil {
		return err
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return decodeJSON(text, v, true)
}
