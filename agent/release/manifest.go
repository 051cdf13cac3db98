// Package release knows what a release is: the manifest that names its files, the signature over it, and the order of versions.
// The tool that makes a release, the installer's verifier and the agent that updates itself share it. It stands on the standard
// library alone and touches nothing.
package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Format is the one that this package reads and writes. A reader refuses any other; within it fields may be added, and are ignored by
// those who do not know them, so that an old agent can read the manifest of the release that replaces it.
const Format = "skerry-release/1"

// The limits of a manifest. What is beyond them is refused before it is looked at.
const (
	MaxManifestBytes  = 1 << 20
	MaxSignatureBytes = 16 << 10
	MaxFiles          = 1024
	MaxNameBytes      = 128
	MaxFileBytes      = 4 << 30
)

// The names of the files that are in no manifest, and where a release server keeps them: the files of a release are in a directory
// that has the version's name, and a channel is a file that holds a version and a newline.
const (
	ManifestName  = "manifest.json"
	SignatureName = "manifest.json.minisig"
	ChannelDir    = "channel"
)

// The kinds of files.
const (
	KindArchive = "archive"    // tar.gz with the program, its license and its service files
	KindSmall   = "archive-xz" // the same as tar.xz, of the node agent alone
	KindDeb     = "deb"
	KindRPM     = "rpm"
	KindAPK     = "apk"
	KindIPK     = "ipk"
	KindImage   = "image"  // an OCI image as a tar
	KindVerify  = "verify" // the verifier, as it is executed
	KindBundle  = "bundle" // everything, for a site without a network
	KindSBOM    = "sbom"
	KindKube    = "kube" // what is applied to Kubernetes: the chart, the kustomize base, the manifest for k3s
	KindOther   = "other"
)

// Manifest is what is signed. Version is a semantic version without a v.
type Manifest struct {
	Format  string
	Version string
	Commit  string
	Built   time.Time // of the commit, in whole seconds
	Files   []File
}

// File is one of a release. Program, Variant and Target are empty where they do not apply; a target is GOOS-GOARCH with, for 32-bit ARM,
// the version: linux-armv6. ProgramSHA256 and ProgramSize are those of the executable inside an archive: who has it needs no download.
type File struct {
	Name          string `json:"name"`
	SHA256        string `json:"sha256"` // in lower-case hexadecimal
	Size          int64  `json:"size"`   // in bytes
	Kind          string `json:"kind"`
	Program       string `json:"program,omitempty"`
	Variant       string `json:"variant,omitempty"` // lite or full
	Target        string `json:"target,omitempty"`
	ProgramSHA256 string `json:"program_sha256,omitempty"`
	ProgramSize   int64  `json:"program_size,omitempty"`
}

// document is the manifest's form on the wire.
type document struct {
	Format  string `json:"format"`
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Built   string `json:"built"` // RFC 3339, UTC
	Files   []File `json:"files"`
}

// Encode writes m with one file a line, each beginning with its name and its hash: install.sh reads it with sed. The same m gives the
// same bytes.
func (m Manifest) Encode() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	head := []struct{ key, value string }{{"format", m.Format}, {"version", m.Version}, {"commit", m.Commit},
		{"built", m.Built.UTC().Format(time.RFC3339)}}
	b.WriteString("{\n")
	for _, h := range head {
		value, err := json.Marshal(h.value)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", h.key, err)
		}
		fmt.Fprintf(&b, "%q:%s,\n", h.key, value)
	}
	b.WriteString("\"files\":[")
	for i, f := range m.Files {
		line, err := json.Marshal(f)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", f.Name, err)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		b.Write(line)
	}
	b.WriteString("\n]}\n")
	if b.Len() > MaxManifestBytes {
		return nil, fmt.Errorf("manifest has %d bytes; wanted at most %d", b.Len(), MaxManifestBytes)
	}
	return b.Bytes(), nil
}

// Decode reads a manifest whose signature has been checked, or is nobody's business: use Verify for one that came from elsewhere.
func Decode(raw []byte) (Manifest, error) {
	if len(raw) > MaxManifestBytes {
		return Manifest{}, fmt.Errorf("manifest has %d bytes; wanted at most %d", len(raw), MaxManifestBytes)
	}
	var d document
	if err := json.Unmarshal(raw, &d); err != nil { // which refuses what follows the object
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	if d.Format != Format {
		return Manifest{}, fmt.Errorf("manifest: format %.40q; wanted %q", d.Format, Format)
	}
	built, err := time.Parse(time.RFC3339, d.Built)
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest: built %.40q; wanted a time like 2026-01-02T15:04:05Z", d.Built)
	}
	m := Manifest{Format: d.Format, Version: d.Version, Commit: d.Commit, Built: built.UTC().Truncate(time.Second), Files: d.Files}
	return m, m.Validate()
}

// Validate tells everything that is wrong with m.
func (m Manifest) Validate() error {
	if m.Format != Format {
		return fmt.Errorf("manifest: format %.40q; wanted %q", m.Format, Format)
	}
	if len(m.Files) == 0 || len(m.Files) > MaxFiles {
		return fmt.Errorf("manifest: %d files; wanted 1 to %d", len(m.Files), MaxFiles)
	}
	var errs []error
	if _, err := ParseVersion(m.Version); err != nil {
		errs = append(errs, err)
	}
	if len(m.Commit) > MaxNameBytes {
		errs = append(errs, fmt.Errorf("commit has %d bytes; wanted at most %d", len(m.Commit), MaxNameBytes))
	}
	if y := m.Built.UTC().Year(); y < 2000 || y > 9999 {
		errs = append(errs, fmt.Errorf("built %v; wanted a time since 2000", m.Built))
	}
	seen := map[string]bool{}
	for _, f := range m.Files {
		if seen[f.Name] {
			errs = append(errs, fmt.Errorf("%s is named twice", f.Name))
		}
		seen[f.Name] = true
		errs = append(errs, f.validate())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}

func (f File) validate() error {
	if err := ValidName(f.Name); err != nil {
		return err
	}
	var errs []error
	wrong := func(field string, value any, wanted string) {
		errs = append(errs, fmt.Errorf("%s: %s %.80q; wanted %s", f.Name, field, fmt.Sprint(value), wanted))
	}
	if f.Name == ManifestName || f.Name == SignatureName {
		wrong("name", f.Name, "a file that is not the manifest's own")
	}
	if !isSHA256(f.SHA256) {
		wrong("sha256", f.SHA256, "64 lower-case hexadecimal digits")
	}
	if f.Size < 0 || f.Size > MaxFileBytes {
		wrong("size", f.Size, fmt.Sprintf("0 to %d", int64(MaxFileBytes)))
	}
	if (f.ProgramSHA256 != "") != (f.ProgramSize != 0) || f.ProgramSHA256 != "" && !isSHA256(f.ProgramSHA256) {
		wrong("program_sha256", f.ProgramSHA256, "64 lower-case hexadecimal digits with a program_size, or neither")
	}
	if f.ProgramSize < 0 || f.ProgramSize > MaxFileBytes {
		wrong("program_size", f.ProgramSize, fmt.Sprintf("0 to %d", int64(MaxFileBytes)))
	}
	for _, w := range []struct{ field, value string }{{"kind", f.Kind}, {"program", f.Program}, {"variant", f.Variant}, {"target", f.Target}} {
		if w.value == "" && w.field != "kind" {
			continue
		}
		if ValidName(w.value) != nil {
			wrong(w.field, w.value, "a word of letters, digits, dots, dashes and underscores")
		}
	}
	return errors.Join(errs...)
}

// ValidName reports why name cannot be that of a file of a release: it is one element of a path and of a URL, in need of no escape anywhere.
func ValidName(name string) error {
	const wanted = "[A-Za-z0-9][A-Za-z0-9._~+-]*"
	if name == "" || len(name) > MaxNameBytes {
		return fmt.Errorf("name %.40q has %d characters; wanted 1 to %d", name, len(name), MaxNameBytes)
	}
	for i := range len(name) {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || strings.IndexByte("._~+-", c) < 0) {
			return fmt.Errorf("name %q: character %q at %d; wanted %s", name, c, i, wanted)
		}
	}
	return nil
}

func isSHA256(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// Find returns the one file of that kind for a program. variant and target are empty for what has none.
func (m Manifest) Find(kind, program, variant, target string) (File, error) {
	var have []string
	for _, f := range m.Files {
		if f.Kind != kind || f.Program != program {
			continue
		}
		if f.Variant == variant && f.Target == target {
			return f, nil
		}
		have = append(have, strings.Trim(f.Target+" "+f.Variant, " "))
	}
	return File{}, fmt.Errorf("release %s has no %s of %s for %q %q; it has those for %q", m.Version, kind, program, target, variant, have)
}

// FileNamed returns the file of that name.
func (m Manifest) FileNamed(name string) (File, error) {
	for _, f := range m.Files {
		if f.Name == name {
			return f, nil
		}
	}
	return File{}, fmt.Errorf("release %s has no file %.80q", m.Version, name)
}
