package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/agent/release"
)

// scripts puts the trust anchor into the installer: the release key, the hashes of the verifiers and the version below which it goes only
// when told to. What is not stamped installs nothing.
func (m *maker) scripts() error {
	var pins []string
	for name, sum := range m.verify {
		pins = append(pins, name+"="+sum)
	}
	slices.Sort(pins)
	m.stamped = map[string][]byte{}
	stamps := map[string]string{"@RELEASE_KEY@": m.key.public.String(), "@RELEASE_VERSION@": m.version, "@RELEASE_URL@": m.url, "@VERIFIER_PINS@": strings.Join(pins, " ")}
	for _, name := range []string{"install.sh", "uninstall.sh"} {
		raw, err := os.ReadFile(filepath.Join(m.source, "install", name))
		if err != nil {
			return err
		}
		text := string(raw)
		for mark, value := range stamps {
			if n := strings.Count(text, "'"+mark+"'"); name == "install.sh" && n != 1 {
				return fmt.Errorf("install/install.sh has the mark '%s' %d times; wanted once", mark, n)
			}
			text = strings.ReplaceAll(text, "'"+mark+"'", "'"+value+"'")
		}
		m.stamped[name] = []byte(text)
		if err := m.addBytes(name, m.stamped[name], release.File{Kind: release.KindOther}); err != nil {
			return err
		}
	}
	return nil
}
