package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/agent/release"
)

// spdxDocument is SPDX 2.3 in JSON, of which we write these parts.
type spdxDocument struct {
	Version       string             `json:"spdxVersion"`
	License       string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Describes     []string           `json:"documentDescribes"`
	Packages      []spdxPackage      `json:"packages"`
	Relationships []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID        string         `json:"SPDXID"`
	Name      string         `json:"name"`
	Version   string         `json:"versionInfo"`
	Download  string         `json:"downloadLocation"`
	Analyzed  bool           `json:"filesAnalyzed"`
	Concluded string         `json:"licenseConcluded"`
	Declared  string         `json:"licenseDeclared"`
	Copyright string         `json:"copyrightText"`
	Checksums []spdxChecksum `json:"checksums,omitempty"`
	Refs      []spdxRef      `json:"externalRefs,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelationship struct {
	From string `json:"spdxElementId"`
	Kind string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

// bill writes the bill of materials of one binary: what the linker put into it, by its own word.
func (m *maker) bill(b binary) error {
	info, err := buildinfo.ReadFile(b.path)
	if err != nil {
		return fmt.Errorf("read what %s is made of: %w", b.path, err)
	}
	sum, _, err := hashOf(b.path)
	if err != nil {
		return err
	}
	name := m.fileName(b.program.name, b.target.name, b.variant.name, ".spdx.json")
	const root = "SPDXRef-Program"
	doc := spdxDocument{Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: strings.TrimSuffix(name, ".spdx.json"),
		Namespace: "https://skerry.invalid/spdx/" + sum, Describes: []string{root},
		Creation:      spdxCreation{m.built.Format(time.RFC3339), []string{"Tool: skerry-release-" + m.version}},
		Relationships: []spdxRelationship{{"SPDXRef-DOCUMENT", "DESCRIBES", root}}}
	main := packageOf(root, debug.Module{Path: module, Version: m.version})
	main.Name, main.Declared, main.Checksums = b.program.name, "Apache-2.0", []spdxChecksum{{"SHA256", sum}}
	doc.Packages = append(doc.Packages, main)
	std := debug.Module{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}
	for i, dep := range append([]*debug.Module{&std}, info.Deps...) {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		id := fmt.Sprintf("SPDXRef-Module-%d", i)
		doc.Packages = append(doc.Packages, packageOf(id, *dep))
		doc.Relationships = append(doc.Relationships, spdxRelationship{root, "DEPENDS_ON", id})
	}
	raw, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		return err
	}
	return m.addBytes(name, append(raw, '\n'), release.File{Kind: release.KindSBOM, Program: b.program.name, Variant: b.variant.name, Target: b.target.name})
}

func packageOf(id string, mod debug.Module) spdxPackage {
	const unknown = "NOASSERTION"
	p := spdxPackage{ID: id, Name: mod.Path, Version: mod.Version, Download: unknown, Concluded: unknown, Declared: unknown, Copyright: unknown,
		Refs: []spdxRef{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + mod.Path + "@" + mod.Version}}}
	if mod.Path != "std" && id != "SPDXRef-Program" {
		p.Download = "https://proxy.golang.org/" + mod.Path + "/@v/" + mod.Version + ".zip"
	}
	return p
}

func hashOf(path string) (string, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), n, err
}
