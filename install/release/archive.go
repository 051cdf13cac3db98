package main

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ulikunitz/xz"

	"github.com/skerry-edge/skerry/agent/release"
)

// entry is a file that goes into archives and packages.
type entry struct {
	name    string // in the archive
	mode    int64
	content []byte
}

// contents are the entries of a binary's archive, the program first: who unpacks a stream has it at once.
func (m *maker) contents(b binary) ([]entry, error) {
	raw, err := os.ReadFile(b.path)
	if err != nil {
		return nil, err
	}
	entries := []entry{{b.program.name, 0o755, raw}}
	files := []struct {
		from, to string
		mode     int64
	}{{"LICENSE", "LICENSE", 0o644}}
	if b.program.service {
		files = append(files, []struct {
			from, to string
			mode     int64
		}{{"install/systemd/" + b.program.name + ".service", "systemd/" + b.program.name + ".service", 0o644},
			{"install/openrc/" + b.program.name, "openrc/" + b.program.name, 0o755},
			{"install/logrotate/" + b.program.name, "logrotate/" + b.program.name, 0o644},
			{"install/procd/" + b.program.name, "procd/" + b.program.name, 0o755}}...)
	}
	for _, f := range files {
		raw, err := os.ReadFile(filepath.Join(m.source, f.from))
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{f.to, f.mode, raw})
	}
	if script, ok := m.stamped["uninstall.sh"]; ok && b.program.service {
		entries = append(entries, entry{"uninstall.sh", 0o755, script})
	}
	return entries, nil
}

// packing is a form of archive.
type packing struct {
	kind, suffix string
	pack         func(io.Writer) (io.WriteCloser, error)
}

var (
	gzipped = packing{release.KindArchive, ".tar.gz", func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, gzip.BestCompression) }}
	xzipped = packing{release.KindSmall, ".tar.xz", func(w io.Writer) (io.WriteCloser, error) {
		return xz.WriterConfig{DictCap: 2 << 20}.NewWriter(w) // whoever unpacks it holds as much, on a device of 16 MiB
	}}
)

// archive packs a binary; the node agent, which goes over thin lines, also with xz, which takes a quarter off.
func (m *maker) archive(b binary, entries []entry) error {
	forms := []packing{gzipped}
	if b.program.name == "skerry-edge" {
		forms = append(forms, xzipped)
	}
	sum, size, err := hashOf(b.path)
	if err != nil {
		return err
	}
	for _, form := range forms {
		name := m.fileName(b.program.name, b.target.name, b.variant.name, form.suffix)
		path := filepath.Join(m.work, name)
		if err := writeFile(path, func(w io.Writer) error { return form.write(w, m.settings, entries) }); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if _, err := m.add(name, path, release.File{Kind: form.kind, Program: b.program.name, Variant: b.variant.name, Target: b.target.name,
			ProgramSHA256: sum, ProgramSize: size}); err != nil {
			return err
		}
	}
	return nil
}

// write writes a packed tar in which nothing is left to chance: no owner but root, one time, no name of who made it.
func (p packing) write(w io.Writer, s settings, entries []entry) error {
	z, err := p.pack(w)
	if err != nil {
		return err
	}
	if err := writeTar(z, s, entries); err != nil {
		return err
	}
	return z.Close()
}

func writeTar(w io.Writer, s settings, entries []entry) error {
	t := tar.NewWriter(w)
	made := map[string]bool{}
	for _, e := range entries {
		if dir, _, ok := strings.Cut(e.name, "/"); ok && !made[dir] {
			made[dir] = true
			if err := t.WriteHeader(s.header(dir+"/", 0o755, 0, tar.TypeDir)); err != nil {
				return err
			}
		}
		if err := t.WriteHeader(s.header(e.name, e.mode, int64(len(e.content)), tar.TypeReg)); err != nil {
			return err
		}
		if _, err := t.Write(e.content); err != nil {
			return err
		}
	}
	return t.Close()
}

func (s settings) header(name string, mode, size int64, kind byte) *tar.Header {
	return &tar.Header{Name: name, Mode: mode, Size: size, Typeflag: kind, ModTime: s.built, Format: tar.FormatUSTAR, Uname: "root", Gname: "root"}
}

// writeFile lets write fill a new file.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = write(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
