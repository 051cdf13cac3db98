package api

import (
	"encoding/base64"
	"errors"
	"fmt"
)

// Signed carries a document with its signature: a JWS in flattened JSON form (RFC 7515 §7.2.2) with EdDSA over Ed25519
// (RFC 8037). The signature is over the exact bytes of Protected and Payload, so nothing depends on how a document is
// re-encoded on the way.
type Signed struct {
	Protected Base64URL `json:"protected"`
	Payload   Base64URL `json:"payload"`
	Signature Base64URL `json:"signature"`
}

// Validate checks the shape of s, not its signature.
func (s *Signed) Validate() error {
	if len(s.Protected) == 0 || len(s.Payload) == 0 || len(s.Signature) != 64 {
		return fmt.Errorf("signed document has %d, %d and %d bytes of header, payload and signature; wanted some, some and 64",
			len(s.Protected), len(s.Payload), len(s.Signature))
	}
	return nil
}

// Base64URL is bytes whose text form is base64url without padding (RFC 4648 §5), as JOSE wants.
type Base64URL []byte

// MarshalText writes the text form.
func (b Base64URL) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText reads the text form.
func (b *Base64URL) UnmarshalText(text []byte) error {
	raw, err := base64.RawURLEncoding.AppendDecode(nil, text)
	if err != nil {
		return errors.New("wanted base64url without padding")
	}
	*b = raw
	return nil
}
