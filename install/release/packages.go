package main

import (
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/apk"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	"github.com/goreleaser/nfpm/v2/ipk"
	"github.com/goreleaser/nfpm/v2/rpm"

	"github.com/skerry-edge/skerry/agent/release"
)

// format is a kind of package. service is the directory of the archive with the service files of the distributions that use it, and
// where they go.
type format struct {
	kind     string
	packager nfpm.Packager
	service  string
	to       string
	names    map[string]string // target → what the distribution calls it, where nfpm does not know
}

// formats is made anew for every package: nfpm writes into what it is given. An empty name of an architecture: none there.
func formats() []format {
	return []format{
		{release.KindDeb, deb.Default, "systemd/", "/lib/systemd/system/", nil},
		{release.KindRPM, rpm.DefaultRPM, "systemd/", "/usr/lib/systemd/system/", nil},
		{release.KindAPK, apk.Default, "openrc/", "/etc/init.d/", map[string]string{"linux-mipsle": ""}},
		{release.KindIPK, ipk.Default, "procd/", "/etc/init.d/", map[string]string{"linux-mipsle": "mipsel_24kc", "linux-arm64": "aarch64_generic",
			"linux-armv7": "arm_cortex-a7", "linux-armv6": "arm_arm1176jzf-s_vfp", "linux-386": "i386_pentium4"}},
	}
}

// packages writes one of each format.
func (m *maker) packages(b binary, entries []entry) error {
	staged := filepath.Join(m.work, "stage")
	if err := os.RemoveAll(staged); err != nil {
		return err
	}
	for _, f := range formats() {
		arch, named := f.names[b.target.name]
		if named && arch == "" {
			continue
		}
		info, err := m.packageInfo(b, f, entries, filepath.Join(staged, f.kind))
		if err != nil {
			return err
		}
		if named {
			info.Arch = arch
		}
		name := m.fileName(b.program.name, b.target.name, b.variant.name, "."+f.kind)
		out := filepath.Join(m.work, name)
		if err := writeFile(out, func(w io.Writer) error { return f.packager.Package(info, w) }); err != nil {
			return fmt.Errorf("package %s: %w", name, err)
		}
		if _, err := m.add(name, out, release.File{Kind: f.kind, Program: b.program.name, Variant: b.variant.name, Target: b.target.name}); err != nil {
			return err
		}
	}
	return nil
}

// packageInfo stages the files in dir. The program goes to /usr/bin, as is the custom of packages; service files are told so.
func (m *maker) packageInfo(b binary, f format, entries []entry, dir string) (*nfpm.Info, error) {
	info := &nfpm.Info{Name: b.program.name, Arch: b.target.packages, Platform: "linux", Version: m.version, Section: "admin",
		Priority: "optional", Maintainer: "Skerry <release@skerry.invalid>", Description: b.program.about, License: "Apache-2.0", MTime: m.built,
		DisableGlobbing: true}
	info.RPM.BuildHost, info.RPM.Summary, info.RPM.Group = "skerry", b.program.about, "System/Daemons"
	if b.variant.name != "" && b.variant != b.program.variants[0] { // full and lite exclude each other
		info.Name += "-" + b.variant.name
		info.Provides, info.Conflicts = []string{b.program.name}, []string{b.program.name}
	}
	for _, e := range entries {
		to := ""
		content := e.content
		switch {
		case e.name == b.program.name:
			to = "/usr/bin/" + b.program.name
		case e.name == "LICENSE":
			to = "/usr/share/doc/" + info.Name + "/LICENSE"
		case strings.HasPrefix(e.name, f.service):
			to = f.to + path.Base(e.name)
			content = []byte(strings.ReplaceAll(string(content), "/usr/local/bin/", "/usr/bin/"))
		default:
			continue
		}
		if err := m.include(info, dir, to, content, os.FileMode(e.mode)); err != nil {
			return nil, err
		}
	}
	if f.kind == release.KindIPK { // an upgrade of OpenWrt loses packages; it is to lose no identity
		if err := m.include(info, dir, "/lib/upgrade/keep.d/"+b.program.name, []byte("/etc/skerry/\n"), 0o644); err != nil {
			return nil, err
		}
	}
	if err := m.packageScripts(b, f, info, dir); err != nil {
		return nil, err
	}
	nfpm.WithDefaults(info) // which takes the version apart
	return info, nfpm.PrepareForPackager(info, f.kind)
}

// include stages one file of a package.
func (m *maker) include(info *nfpm.Info, dir, to string, content []byte, mode os.FileMode) error {
	from := filepath.Join(dir, filepath.FromSlash(to))
	info.Contents = append(info.Contents, &files.Content{Source: from, Destination: to,
		FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: m.built}})
	return m.stage(from, content)
}

// packageScripts are those of install/package, with the program's name put in. An apk has but one: nfpm writes several in the order of a Go
// map, another each time.
func (m *maker) packageScripts(b binary, f format, info *nfpm.Info, dir string) error {
	for name, to := range map[string]*string{"postinstall": &info.Scripts.PostInstall, "preremove": &info.Scripts.PreRemove} {
		if f.kind == release.KindAPK && name == "postinstall" {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(m.source, "install", "package", strings.TrimSuffix(f.service, "/")+"-"+name+".sh"))
		if err != nil {
			return err
		}
		*to = filepath.Join(dir, name)
		if err := m.stage(*to, []byte(strings.ReplaceAll(string(raw), "@PROGRAM@", b.program.name))); err != nil {
			return err
		}
	}
	return nil
}

// stage writes a file for nfpm to read. It has the time of the release: nfpm takes that of scripts from their files.
func (m *maker) stage(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return err
	}
	return os.Chtimes(path, m.built, m.built)
}
