package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/skerry-edge/skerry/agent/release"
)

// throwAwayName says what it is.
const throwAwayName = "THROW-AWAY-release-key.pem"

// signingKey signs the manifest.
type signingKey struct {
	private ed25519.PrivateKey
	public  release.Key
}

// loadKey reads the release key, or makes one that nobody should trust and says so.
func loadKey(s settings) (signingKey, error) {
	path := s.keyFile
	if path == "" {
		var err error
		if path, err = throwAway(s); err != nil {
			return signingKey{}, err
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return signingKey{}, fmt.Errorf("read release key: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "PRIVATE KEY" {
		return signingKey{}, fmt.Errorf("release key %s: wanted PEM with PRIVATE KEY, as `openssl genpkey -algorithm ed25519` writes it", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return signingKey{}, fmt.Errorf("release key %s: %w", path, err)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return signingKey{}, fmt.Errorf("release key %s is a %T; wanted Ed25519", path, parsed)
	}
	k := signingKey{private, release.KeyOf(ed25519.PublicKey(private[ed25519.SeedSize:]))}
	s.say("signing with the key %s", k.public)
	return k, nil
}

// throwAway makes a key in the output directory, once, so that a second run signs with the same one.
func throwAway(s settings) (string, error) {
	path := filepath.Join(s.out, throwAwayName)
	s.say("NO RELEASE KEY was given (KEY=file): signing with a throw-away one, %s. Do not publish this release.", path)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return path, err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", fmt.Errorf("encode a key: %w", err)
	}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return "", fmt.Errorf("make %s: %w", s.out, err)
	}
	return path, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}
