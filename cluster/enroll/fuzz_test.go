package enroll

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"testing"
	"time"
)

// FuzzEnroll throws bodies at the handler: it must answer each, and let in nobody without the secret.
func FuzzEnroll(f *testing.F) {
	s := newQuietSite(f, nil)
	token := s.token(f, TokenSpec{})
	d := s.device(f)
	good := d.request(f, token, "n1")
	for _, body := range []string{"", "{}", "[]", "null", `{"tokenId":"a","secret":"b","csr":"c"}`,
		`{"tokenId":"` + token.ID + `","secret":"` + good.Secret + `",` +
			`"csr":"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"}`} {
		f.Add([]byte(body))
	}
	block, _ := pem.Decode([]byte(good.CSR))
	f.Add(block.Bytes)
	f.Fuzz(func(t *testing.T, data []byte) {
		s.clock.add(time.Minute) // the limiter's budget is another test's
		if status, _ := post(s, data); status == http.StatusOK && !bytes.Contains(data, []byte(good.Secret)) {
			t.Errorf("body %q was admitted", data)
		}
		if key, err := readCSR(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: data}))); err == nil {
			if keyAllowed(key.key) != nil || len(key.sha256) != 64 {
				t.Errorf("request %x: key %T was taken", data, key.key)
			}
		}
	})
}

// FuzzAuthorize throws certificates signed by nobody, or damaged ones, at Authorize.
func FuzzAuthorize(f *testing.F) {
	s := newQuietSite(f, nil)
	d := s.device(f)
	reply, err := s.Enroll(d.request(f, s.token(f, TokenSpec{}), "n1"), "192.0.2.1")
	if err != nil {
		f.Fatal(err)
	}
	d.keep(f, reply)
	foreign, err := newRoot("c1", s.clock.now())
	if err != nil {
		f.Fatal(err)
	}
	forged, err := foreign.issueClient(s.identity("n1"), d.key.Public(), s.clock.now(), day)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(d.cert.Raw)
	f.Add(forged.Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		if _, err := s.Authorize(cert); err == nil && !bytes.Equal(cert.RawTBSCertificate, d.cert.RawTBSCertificate) {
			t.Errorf("certificate %x was accepted", der)
		}
	})
}
