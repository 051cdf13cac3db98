package mqtt

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/skerry-edge/skerry/api"
)

// ErrOtherKey is wrapped by OpenSecrets when what it shall open was sealed to another key: that of a former enrolment.
var ErrOtherKey = errors.New("sealed to another key")

// point is the length of an encapsulated key of DHKEM(P-256): an uncompressed point (RFC 9180 §7.1).
const point = 65

// Place is which workload of which node secrets are for. They open nowhere else.
type Place struct {
	Node     string
	Workload string
}

// SealSecrets encrypts secrets to the key of a node's certificate (RFC 9180: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256,
// AES-128-GCM). idKey is known to nobody but who seals, at least 16 bytes: it makes the ID, which is the same for the same
// content, place and keys, and which nobody can find the content by. Data differs on every call.
func SealSecrets(pub *ecdsa.PublicKey, at Place, secrets *api.Secrets, idKey []byte) (*api.Sealed, error) {
	fault := func(err error) (*api.Sealed, error) {
		return nil, fmt.Errorf("seal secrets of %s for %s: %w", at.Workload, at.Node, err)
	}
	if len(idKey) < 16 {
		return fault(fmt.Errorf("idKey has %d bytes; wanted at least 16", len(idKey)))
	}
	if err := secrets.Validate(); err != nil {
		return fault(err)
	}
	plain, err := json.Marshal(secrets)
	if err != nil {
		return fault(err)
	}
	name, err := secretKeyName(pub)
	if err != nil {
		return fault(err)
	}
	dh, err := pub.ECDH()
	if err != nil {
		return fault(err)
	}
	to, err := hpke.NewDHKEMPublicKey(dh)
	if err != nil {
		return fault(err)
	}
	encapsulated, sender, err := hpke.NewSender(to, hpke.HKDFSHA256(), hpke.AES128GCM(), sealedInfo(at))
	if err != nil {
		return fault(err)
	}
	cipher, err := sender.Seal([]byte(at.Workload), plain)
	if err != nil {
		return fault(err)
	}
	id := hmac.New(sha256.New, idKey)
	fmt.Fprintf(id, "%s %s %s\n%s", name, at.Node, at.Workload, plain) // none of the three has a space in it
	return &api.Sealed{ID: hex.EncodeToString(id.Sum(nil)), Key: name, Data: append(encapsulated, cipher...)}, nil
}

// OpenSecrets decrypts what SealSecrets made for this very place.
func OpenSecrets(key *ecdsa.PrivateKey, at Place, sealed *api.Sealed) (*api.Secrets, error) {
	fault := func(err error) (*api.Secrets, error) {
		return nil, fmt.Errorf("open secrets of %s: %w", at.Workload, err)
	}
	name, err := secretKeyName(&key.PublicKey)
	if err != nil {
		return fault(err)
	}
	if sealed.Key != name {
		return fault(fmt.Errorf("%w: %.16s…, this node has %.16s…", ErrOtherKey, sealed.Key, name))
	}
	if len(sealed.Data) <= point {
		return fault(fmt.Errorf("%d bytes; wanted more than %d", len(sealed.Data), point))
	}
	dh, err := key.ECDH()
	if err != nil {
		return fault(err)
	}
	private, err := hpke.NewDHKEMPrivateKey(ecdh.KeyExchanger(dh))
	if err != nil {
		return fault(err)
	}
	recipient, err := hpke.NewRecipient(sealed.Data[:point], private, hpke.HKDFSHA256(), hpke.AES128GCM(), sealedInfo(at))
	if err != nil {
		return fault(err)
	}
	plain, err := recipient.Open([]byte(at.Workload), sealed.Data[point:])
	if err != nil {
		return fault(err)
	}
	var secrets api.Secrets
	if err := json.Unmarshal(plain, &secrets); err != nil {
		return fault(errors.New("what was sealed is no JSON of secrets")) // not err, which may quote it
	}
	if err := secrets.Validate(); err != nil {
		return fault(err)
	}
	return &secrets, nil
}

// sealedInfo binds what is sealed to its use and its node.
func sealedInfo(at Place) []byte { return []byte("skerry/v1 sealed " + at.Node) }

// secretKeyName is lower-case hex SHA-256 of the SubjectPublicKeyInfo.
func secretKeyName(pub *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}
