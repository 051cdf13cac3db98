package release

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// A signature is a file as minisign writes it in its older form, "Ed": Ed25519 over the manifest's very bytes, which minisign, signify,
// OpenBSD's and OpenWrt's own tools and, with the last 64 bytes of its second line, openssl can check. Several may follow each other while a key
// is being replaced.
//
//	untrusted comment: …
//	base64("Ed" + id of the key, 8 bytes + signature, 64 bytes)
//	trusted comment: …
//	base64(signature over the last signature and the trusted comment)
//
// The comments are for people: nothing here relies on them.
const (
	algorithm       = "Ed"
	keyIDBytes      = 8
	untrustedPrefix = "untrusted comment: "
	trustedPrefix   = "trusted comment: "
	maxKeys         = 16
)

// Key is one that releases are signed with. ID is a hint for who has several keys; it proves nothing.
type Key struct {
	ID     [keyIDBytes]byte
	Public ed25519.PublicKey
}

// KeyOf gives a public key its id: the first bytes of its SHA-256.
func KeyOf(public ed25519.PublicKey) Key {
	sum := sha256.Sum256(public)
	return Key{ID: [keyIDBytes]byte(sum[:keyIDBytes]), Public: public}
}

// String is the key as minisign -P and SKERRY_RELEASE_KEY take it, in base64.
func (k Key) String() string {
	return base64.StdEncoding.EncodeToString(append(append([]byte(algorithm), k.ID[:]...), k.Public...))
}

// ParseKey reads a key as String writes it.
func ParseKey(s string) (Key, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(s))
	if err != nil || len(raw) != len(algorithm)+keyIDBytes+ed25519.PublicKeySize || string(raw[:len(algorithm)]) != algorithm {
		return Key{}, fmt.Errorf("release key %.80q; wanted 56 characters of base64 that begin with RW, as minisign's keys are", s)
	}
	return Key{ID: [keyIDBytes]byte(raw[2:]), Public: ed25519.PublicKey(raw[len(algorithm)+keyIDBytes:])}, nil
}

// Sign returns the signature's file for an encoded manifest. comment is one line.
func Sign(manifest []byte, private ed25519.PrivateKey, comment string) ([]byte, error) {
	if len(private) != ed25519.PrivateKeySize {
		return nil, errors.New("release key: wanted an Ed25519 private key")
	}
	if strings.ContainsAny(comment, "\r\n") {
		return nil, fmt.Errorf("comment %q; wanted one line", comment)
	}
	key := KeyOf(ed25519.PublicKey(private[ed25519.SeedSize:]))
	signature := ed25519.Sign(private, manifest)
	global := ed25519.Sign(private, append(bytes.Clone(signature), comment...))
	var b bytes.Buffer
	fmt.Fprintf(&b, "%sskerry release, key %x\n", untrustedPrefix, key.ID)
	fmt.Fprintf(&b, "%s\n", base64.StdEncoding.EncodeToString(append(append([]byte(algorithm), key.ID[:]...), signature...)))
	fmt.Fprintf(&b, "%s%s\n%s\n", trustedPrefix, comment, base64.StdEncoding.EncodeToString(global))
	return b.Bytes(), nil
}

// ErrSignature is what Verify returns, wrapped, when no trusted key signed the manifest.
var ErrSignature = errors.New("no signature by a trusted release key")

// Verify returns the manifest only if one of keys signed these very bytes. Nothing of it is read before.
func Verify(manifest, signature []byte, keys []Key) (Manifest, error) {
	if len(keys) == 0 || len(keys) > maxKeys {
		return Manifest{}, fmt.Errorf("%d release keys; wanted 1 to %d", len(keys), maxKeys)
	}
	if len(manifest) > MaxManifestBytes {
		return Manifest{}, fmt.Errorf("manifest has %d bytes; wanted at most %d", len(manifest), MaxManifestBytes)
	}
	blocks, err := parseSignature(signature)
	if err != nil {
		return Manifest{}, err
	}
	for _, block := range blocks {
		for _, k := range keys {
			if k.ID == block.id && len(k.Public) == ed25519.PublicKeySize && ed25519.Verify(k.Public, manifest, block.signature) {
				return Decode(manifest)
			}
		}
	}
	var by []string
	for _, block := range blocks {
		by = append(by, fmt.Sprintf("%x", block.id))
	}
	return Manifest{}, fmt.Errorf("%w: the manifest is signed by %v, or not as it is here", ErrSignature, by)
}

// block is one signature of a file.
type block struct {
	id        [keyIDBytes]byte
	signature []byte
}

func parseSignature(raw []byte) ([]block, error) {
	if len(raw) > MaxSignatureBytes {
		return nil, fmt.Errorf("signature has %d bytes; wanted at most %d", len(raw), MaxSignatureBytes)
	}
	var blocks []block
	expect := false
	for line := range strings.SplitSeq(string(raw), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if !expect {
			expect = strings.HasPrefix(line, untrustedPrefix)
			continue
		}
		expect = false
		dec, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(dec) != len(algorithm)+keyIDBytes+ed25519.SignatureSize || string(dec[:len(algorithm)]) != algorithm {
			return nil, fmt.Errorf("signature: line %.20q…; wanted 100 characters of base64 that begin with RW", line)
		}
		blocks = append(blocks, block{[keyIDBytes]byte(dec[2:]), dec[len(algorithm)+keyIDBytes:]})
		if len(blocks) > maxKeys {
			return nil, fmt.Errorf("more than %d signatures", maxKeys)
		}
	}
	if len(blocks) == 0 {
		return nil, fmt.Errorf("signature holds none; wanted a line %q and one of base64", untrustedPrefix+"…")
	}
	return blocks, nil
}
