package api

import (
	"fmt"
	"strings"
)

// ImageName is the name of an image in full: docker.io/library/busybox:1.36. With both Tag and Digest, Digest counts, as for a
// kubelet.
type ImageName struct {
	Registry   string // host, with its port if it has one
	Repository string
	Tag        string
	Digest     string // sha256:…, or empty
}

// The parts that a short name leaves out, as Docker and Kubernetes fill them in.
const (
	defaultRegistry = "docker.io"
	defaultTag      = "latest"
	maxImageName    = 255
	maxImageTag     = 128
)

// ParseImageName reads a name as people write it: busybox, ghcr.io/org/app:1, app@sha256:….
func ParseImageName(text string) (ImageName, error) {
	bad := func(wanted string) (ImageName, error) {
		return ImageName{}, fmt.Errorf("image %.80q: wanted %s", text, wanted)
	}
	var r ImageName
	name, digest, pinned := strings.Cut(text, "@")
	if pinned {
		if !ValidDigest(digest) {
			return bad("@sha256: with 64 hexadecimal digits, in lower case")
		}
		r.Digest = digest
	}
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name, r.Tag = name[:colon], name[colon+1:]
		if !ValidTag(r.Tag) {
			return bad("a tag of up to 128 letters, digits, _, . and -, that begins with none of the last two")
		}
	}
	if r.Tag == "" && !pinned {
		r.Tag = defaultTag
	}
	r.Registry, r.Repository = defaultRegistry, name
	if first, rest, ok := strings.Cut(name, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		r.Registry, r.Repository = first, rest
	}
	if r.Registry == "index.docker.io" {
		r.Registry = defaultRegistry
	}
	if r.Registry == defaultRegistry && !strings.Contains(r.Repository, "/") {
		r.Repository = "library/" + r.Repository
	}
	if !validHost(r.Registry) {
		return bad("a registry such as ghcr.io or 10.0.0.5:5000")
	}
	if len(r.Registry)+len(r.Repository) > maxImageName || !validRepository(r.Repository) {
		return bad("a repository of lower-case letters, digits and single separators . _ - /")
	}
	return r, nil
}

// String writes the name in full.
func (r ImageName) String() string {
	out := r.Name()
	if r.Tag != "" {
		out += ":" + r.Tag
	}
	if r.Digest != "" {
		out += "@" + r.Digest
	}
	return out
}

// Name is the image without tag and digest.
func (r ImageName) Name() string { return r.Registry + "/" + r.Repository }

// Asked is what to ask a registry for: the digest, else the tag.
func (r ImageName) Asked() string {
	if r.Digest != "" {
		return r.Digest
	}
	return r.Tag
}

// DigestPrefix begins every digest.
const DigestPrefix = "sha256:"

// ValidDigest reports whether s is sha256: with 64 hexadecimal digits in lower case. It is what every registry uses.
func ValidDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, DigestPrefix)
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

func lowerAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// ValidTag reports whether s can be the tag of an image.
func ValidTag(s string) bool {
	if s == "" || len(s) > maxImageTag || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i] | 0x20; !lowerAlnum(c) && s[i] != '_' && s[i] != '.' && s[i] != '-' || s[i] < ' ' {
			return false
		}
	}
	return true
}

func validHost(s string) bool {
	host, port, hasPort := strings.Cut(s, ":")
	if hasPort && (port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "") || host == "" {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !lowerAlnum(c) && (c < 'A' || c > 'Z') && c != '-' {
				return false
			}
		}
	}
	return true
}

// validRepository is the grammar of the distribution specification: parts of letters and digits with ., _, __ or any number of
// hyphens between them.
func validRepository(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || !lowerAlnum(part[0]) || !lowerAlnum(part[len(part)-1]) {
			return false
		}
		for i := 0; i < len(part); {
			if lowerAlnum(part[i]) {
				i++
				continue
			}
			run := i
			for i < len(part) && !lowerAlnum(part[i]) {
				i++
			}
			if sep := part[run:i]; sep != "." && sep != "_" && sep != "__" && strings.Trim(sep, "-") != "" {
				return false
			}
		}
	}
	return true
}
