package install

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Listing names everything that was ever changed, with kind, mode and content: two that are equal are the same file system.
func (m *Machine) Listing() []string {
	m.t.Helper()
	var lines []string
	m.Do(func() error {
		dirs := []string{filepath.Join(m.dir, "fs", "upper")}
		for _, w := range m.watch {
			dirs = append(dirs, m.Path(w))
		}
		for _, dir := range dirs {
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				line, err := describe(path, d)
				lines = append(lines, strings.TrimPrefix(line, filepath.Join(m.dir, "fs")))
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return lines
}

func describe(path string, d fs.DirEntry) (string, error) {
	st, err := d.Info()
	if err != nil {
		return "", err
	}
	line := fmt.Sprintf("%s %v", path, st.Mode())
	if st.Mode().IsRegular() {
		raw, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf(" %x", sha256.Sum256(raw))
	}
	return line, nil
}

// Same fails the test unless before is what Listing says now.
func (m *Machine) Same(before []string) {
	m.t.Helper()
	after := m.Listing()
	for _, line := range after {
		if !slices.Contains(before, line) {
			m.t.Errorf("is there now: %s", line)
		}
	}
	for _, line := range before {
		if !slices.Contains(after, line) {
			m.t.Errorf("is gone or other: %s", line)
		}
	}
}
