package mqtt

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/skerry-edge/skerry/api"
)

// testKey is the n-th of a few keys that never change, for the golden files.
func testKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

func sealed(t testing.TB, key ed25519.PrivateKey, kind Kind) *api.Signed {
	t.Helper()
	s, err := Seal(key, kind, sample(kind))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignedDocumentsOpenAsTheyWereSealed(t *testing.T) {
	codec, key := testCodec(t), testKey(1)
	for _, kind := range []Kind{KindDesired, KindCmd} {
		want := sample(kind)
		for _, enc := range []Encoding{JSON, CBOR} {
			data, err := codec.Encode(enc, sealed(t, key, kind))
			if err != nil {
				t.Fatal(err)
			}
			if kind == KindCmd {
				golden(t, "Signed."+[]string{"json", "cbor"}[enc], data)
			}
			got := zero(want)
			keys := []ed25519.PublicKey{publicOf(testKey(2)), publicOf(key)}
			if err := codec.Open(keys, kind, data, got); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("kind %d: %+v, %v; wanted %+v", kind, got, err, want)
			}
		}
	}
}

func TestSignatureFollowsRFC7515(t *testing.T) {
	s := sealed(t, testKey(1), KindCmd)
	enc := base64.RawURLEncoding
	input := enc.EncodeToString(s.Protected) + "." + enc.EncodeToString(s.Payload)
	if !ed25519.Verify(publicOf(testKey(1)), []byte(input), s.Signature) {
		t.Error("signature is not over BASE64URL(header).BASE64URL(payload)")
	}
}

func TestOpenRefusesWhatIsNotTrusted(t *testing.T) {
	codec, key := testCodec(t), testKey(1)
	trusted := []ed25519.PublicKey{publicOf(key)}
	// forged signs any header, as whoever holds a trusted key for something else could.
	forged := func(h string) *api.Signed {
		s := sealed(t, key, KindCmd)
		s.Protected = []byte(h)
		s.Signature = ed25519.Sign(key, signingInput(s))
		return s
	}
	kid := KeyID(publicOf(key))
	for _, c := range []struct {
		name    string
		s       *api.Signed
		keys    []ed25519.PublicKey
		want    string
		foreign bool // a question of trust
	}{
		{"other key", sealed(t, testKey(2), KindCmd), trusted, "is none of the 1 trusted", true},
		{"no key", sealed(t, key, KindCmd), nil, "is none of the 0 trusted", true},
		{"other kind", sealed(t, key, KindDesired), trusted, `typ "Desired"; wanted EdDSA, Command`, true},
		{"alg none", forged(`{"alg":"none","kid":"` + kid + `","typ":"Command"}`), trusted, `alg "none"`, true},
		{"alg HS256", forged(`{"alg":"HS256","kid":"` + kid + `","typ":"Command"}`), trusted, `alg "HS256"`, true},
		{"header twice", forged(`{"alg":"EdDSA","alg":"EdDSA","kid":"` + kid + `","typ":"Command"}`), trusted, `key "alg" appears twice`, false},
		{"header is no JSON", forged(`x`), trusted, "header: not one valid JSON value", false},
		{"payload changed", func() *api.Signed {
			s := sealed(t, key, KindCmd)
			s.Payload = bytes.Replace(s.Payload, []byte("node-1"), []byte("node-2"), 1)
			return s
		}(), trusted, "wrong signature by key " + kid, true},
		{"signature changed", func() *api.Signed {
			s := sealed(t, key, KindCmd)
			s.Signature[63] ^= 1
			return s
		}(), trusted, "wrong signature", true},
		{"signature short", func() *api.Signed {
			s := sealed(t, key, KindCmd)
			s.Signature = s.Signature[:63]
			return s
		}(), trusted, "wanted some, some and 64", false},
		{"header of another", func() *api.Signed {
			s := sealed(t, testKey(2), KindCmd)
			s.Protected = sealed(t, key, KindCmd).Protected
			return s
		}(), trusted, "wrong signature", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			data, err := json.Marshal(c.s)
			if err != nil {
				t.Fatal(err)
			}
			var got api.Command
			err = codec.Open(c.keys, KindCmd, data, &got)
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrSignature) != c.foreign {
				t.Errorf("%v; wanted an error that says %q, of trust: %v", err, c.want, c.foreign)
			}
			if !reflect.DeepEqual(got, api.Command{}) {
				t.Errorf("something was decoded: %+v", got)
			}
		})
	}
}

func TestOpenValidatesWhatWasSigned(t *testing.T) {
	s, err := Seal(testKey(1), KindCmd, &api.Command{ID: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	err = testCodec(t).Open([]ed25519.PublicKey{publicOf(testKey(1))}, KindCmd, data, &api.Command{})
	if err == nil || !strings.Contains(err.Error(), "wanted 0 < issued < deadline") || errors.Is(err, ErrSignature) {
		t.Errorf("%v", err)
	}
}

func TestSealSignsOnlyWhatTheContractSigns(t *testing.T) {
	for _, e := range Contract() {
		if _, err := Seal(testKey(1), e.Kind, sample(e.Kind)); (err == nil) != e.Signed {
			t.Errorf("%s: %v", e.Name, err)
		}
	}
}

func FuzzOpenSigned(f *testing.F) {
	codec, key := testCodec(f), testKey(1)
	genuine := sealed(f, key, KindCmd)
	for _, enc := range []Encoding{JSON, CBOR} {
		data, err := codec.Encode(enc, genuine)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"protected":"e30","payload":"e30","signature":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got api.Command
		if codec.Open([]ed25519.PublicKey{publicOf(key)}, KindCmd, data, &got) != nil {
			return
		}
		if want := sample(KindCmd); !reflect.DeepEqual(&got, want) {
			t.Fatalf("%q opened as %+v, which was never signed", data, got)
		}
	})
}
