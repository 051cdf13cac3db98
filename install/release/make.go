package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/agent/release"
)

// maker makes one release.
type maker struct {
	settings
	key      signingKey
	programs []program
	dir      string // where the files of this release go
	work     string // what is removed in the end
	manifest release.Manifest
	verify   map[string]string // target → SHA-256 of its verifier
	stamped  map[string][]byte // scripts with their trust anchor
}

// make writes every file of the release, the manifest last.
func (m *maker) make(ctx context.Context) error {
	var err error
	if m.work, err = os.MkdirTemp("", "skerry-release-"); err != nil {
		return fmt.Errorf("make a place to work: %w", err)
	}
	defer os.RemoveAll(m.work)
	m.manifest = release.Manifest{Format: release.Format, Version: m.version, Commit: m.commit, Built: m.built}
	if err := m.verifiers(ctx); err != nil {
		return err
	}
	if err := m.scripts(); err != nil {
		return err
	}
	for _, p := range m.programs {
		if err := m.program(ctx, p); err != nil {
			return err
		}
	}
	if err := m.kube(); err != nil {
		return err
	}
	if err := m.statement(); err != nil {
		return err
	}
	return m.sign()
}

// verifiers come first: the scripts hold their hashes.
func (m *maker) verifiers(ctx context.Context) error {
	m.verify = map[string]string{}
	for _, t := range m.targetsOf(verifier) {
		b, err := m.build(ctx, verifier, verifier.variants[0], t)
		if err != nil {
			return err
		}
		f, err := m.add(verifier.name+"_"+t.name, b.path, release.File{Kind: release.KindVerify, Program: verifier.name, Target: t.name})
		if err != nil {
			return err
		}
		m.verify[t.name] = f.SHA256
	}
	return nil
}

// program makes everything of one program.
func (m *maker) program(ctx context.Context, p program) error {
	for _, v := range p.variants {
		var built []binary
		for _, t := range m.targetsOf(p) {
			differs, err := m.adds(ctx, p, v, t)
			if err != nil {
				return err
			}
			if !differs {
				m.say("%s %s for %s would be the same as %s: left out", p.name, v.name, t.name, p.variants[0].name)
				continue
			}
			b, err := m.build(ctx, p, v, t)
			if err != nil {
				return err
			}
			if err := m.files(b); err != nil {
				return err
			}
			m.say("made %s %s for %s", p.name, v.name, t.name)
			built = append(built, b)
		}
		if p.image && len(built) > 0 {
			if err := m.image(p, v, built); err != nil {
				return err
			}
		}
	}
	return nil
}

// files are those of one binary: archive, packages, bill of materials.
func (m *maker) files(b binary) error {
	content, err := m.contents(b)
	if err != nil {
		return err
	}
	if err := m.archive(b, content); err != nil {
		return err
	}
	if b.program.service && b.target.packages != "" {
		if err := m.packages(b, content); err != nil {
			return err
		}
	}
	return m.bill(b)
}

// add puts a file that was made into the release. f tells what it is; name, size and hash are added.
func (m *maker) add(name, path string, f release.File) (release.File, error) {
	in, err := os.Open(path)
	if err != nil {
		return f, fmt.Errorf("add %s: %w", name, err)
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(m.dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return f, fmt.Errorf("add %s: %w", name, err)
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), in)
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return f, fmt.Errorf("add %s: %w", name, err)
	}
	f.Name, f.Size, f.SHA256 = name, n, hex.EncodeToString(h.Sum(nil))
	m.manifest.Files = append(m.manifest.Files, f)
	return f, nil
}

// addBytes is add for what is in memory.
func (m *maker) addBytes(name string, content []byte, f release.File) error {
	path := filepath.Join(m.work, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	_, err := m.add(name, path, f)
	return err
}

// sign writes the checksums and the manifest, with its signature.
func (m *maker) sign() error {
	var sums strings.Builder
	slices.SortFunc(m.manifest.Files, func(a, b release.File) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range m.manifest.Files {
		fmt.Fprintf(&sums, "%s  %s\n", f.SHA256, f.Name)
	}
	if err := m.addBytes("SHA256SUMS", []byte(sums.String()), release.File{Kind: release.KindOther}); err != nil {
		return err
	}
	raw, err := m.manifest.Encode()
	if err != nil {
		return err
	}
	sig, err := release.Sign(raw, m.key.private, "skerry "+m.version+" "+release.ManifestName)
	if err != nil {
		return err
	}
	if _, err := release.Verify(raw, sig, []release.Key{m.key.public}); err != nil {
		return fmt.Errorf("what was just signed does not verify: %w", err)
	}
	if err := os.WriteFile(filepath.Join(m.dir, release.ManifestName), raw, 0o644); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if err := os.WriteFile(filepath.Join(m.dir, release.SignatureName), sig, 0o644); err != nil {
		return fmt.Errorf("write signature: %w", err)
	}
	return nil
}
