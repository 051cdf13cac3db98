package main

import (
	"encoding/json"
	"runtime"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/agent/release"
)

// The in-toto statement (v1) with SLSA's provenance (v1) that tells how each file came about. It is in the manifest, whose signature
// is thereby its own.
type inTotoStatement struct {
	Type          string        `json:"_type"`
	Subject       []inTotoFile  `json:"subject"`
	PredicateType string        `json:"predicateType"`
	Predicate     slsaPredicate `json:"predicate"`
}

type inTotoFile struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type slsaPredicate struct {
	Definition slsaDefinition `json:"buildDefinition"`
	Run        slsaRun        `json:"runDetails"`
}

type slsaDefinition struct {
	BuildType    string           `json:"buildType"`
	External     map[string]any   `json:"externalParameters"`
	Internal     map[string]any   `json:"internalParameters"`
	Dependencies []slsaDependency `json:"resolvedDependencies"`
}

type slsaDependency struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest,omitempty"`
}

type slsaRun struct {
	Builder  map[string]string `json:"builder"`
	Metadata map[string]string `json:"metadata"`
}

func (m *maker) statement() error {
	st := inTotoStatement{Type: "https://in-toto.io/Statement/v1", PredicateType: "https://slsa.dev/provenance/v1"}
	for _, f := range m.manifest.Files {
		st.Subject = append(st.Subject, inTotoFile{f.Name, map[string]string{"sha256": f.SHA256}})
	}
	slices.SortFunc(st.Subject, func(a, b inTotoFile) int { return strings.Compare(a.Name, b.Name) })
	var names []string
	for _, t := range m.targetsOf(verifier) {
		names = append(names, t.name)
	}
	st.Predicate = slsaPredicate{
		Definition: slsaDefinition{BuildType: "https://github.com/skerry-edge/skerry/make-release/v1",
			External:     map[string]any{"version": m.version, "targets": names, "channel": m.channel},
			Internal:     map[string]any{"go": runtime.Version(), "stamp": m.built.Unix()},
			Dependencies: []slsaDependency{{URI: "git+https://" + module, Digest: map[string]string{"gitCommit": m.commit}}}},
		Run: slsaRun{Builder: map[string]string{"id": "https://" + module + "/install/release"},
			Metadata: map[string]string{"invocationId": m.commit + "/" + m.version}},
	}
	raw, err := json.MarshalIndent(st, "", " ")
	if err != nil {
		return err
	}
	return m.addBytes(m.fileName("skerry", "", "", ".provenance.json"), append(raw, '\n'), release.File{Kind: release.KindOther})
}
