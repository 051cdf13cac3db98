package mqtt

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/skerry-edge/skerry/api"
)

// ErrSignature is wrapped by every failure of Open that concerns trust, as opposed to shape.
var ErrSignature = errors.New("signature not trusted")

// header is the JWS protected header (RFC 7515 §4). Typ keeps a signed command from passing as a desired document.
type header struct {
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	Typ string `json:"typ"`
}

func (h *header) Validate() error { return nil }

// KeyID names an Ed25519 public key: the first 16 characters of the base64url SHA-256 of its bytes.
func KeyID(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(pub)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// Seal signs the JSON form of v as a message of kind. The contract's name of kind is bound into the signature.
func Seal(key ed25519.PrivateKey, kind Kind, v any) (*api.Signed, error) {
	entry, ok := EntryOf(kind)
	if !ok || !entry.Signed {
		return nil, fmt.Errorf("seal message kind %d: the contract does not sign it", kind)
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("seal: not an Ed25519 key")
	}
	protected, err := json.Marshal(header{Alg: "EdDSA", Kid: KeyID(pub), Typ: entry.Name})
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", entry.Name, err)
	}
	payload, err := marshal(v)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", entry.Name, err)
	}
	s := &api.Signed{Protected: protected, Payload: payload}
	s.Signature = ed25519.Sign(key, signingInput(s))
	return s, nil
}

// Open verifies data as a signed message of kind against keys and decodes what it holds into v, with the limits of
// Decode. The caller still has to check that v is meant for it, and now.
func (c *Codec) Open(keys []ed25519.PublicKey, kind Kind, data []byte, v Message) error {
	var s api.Signed
	if err := c.Decode(kind, data, &s); err != nil {
		return err
	}
	entry, _ := EntryOf(kind)
	var h header
	if err := c.decode(s.Protected, &h, false); err != nil {
		return fmt.Errorf("open %s: header: %w", entry.Name, err)
	}
	if h.Alg != "EdDSA" || h.Typ != entry.Name {
		return fmt.Errorf("open %s: header says alg %q, typ %q; wanted EdDSA, %s: %w", entry.Name, h.Alg, h.Typ, entry.Name, ErrSignature)
	}
	for _, key := range keys {
		if KeyID(key) != h.Kid {
			continue
		}
		if !ed25519.Verify(key, signingInput(&s), s.Signature) {
			return fmt.Errorf("open %s: wrong signature by key %s: %w", entry.Name, h.Kid, ErrSignature)
		}
		return c.Decode(kind, s.Payload, v)
	}
	return fmt.Errorf("open %s: key %.40q is none of the %d trusted: %w", entry.Name, h.Kid, len(keys), ErrSignature)
}

// signingInput is what RFC 7515 §5.1 signs.
func signingInput(s *api.Signed) []byte {
	enc := base64.RawURLEncoding
	out := enc.AppendEncode(nil, s.Protected)
	out = append(out, '.')
	return enc.AppendEncode(out, s.Payload)
}
