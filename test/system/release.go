package system

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/agent/release"
)

// BuildEdge builds the node agent, lite or full, as a release of that version would, into dir, and returns its path. It trusts releases by keys.
func BuildEdge(ctx context.Context, dir, version, variant string, keys ...string) (string, error) {
	out := filepath.Join(dir, "skerry-edge-"+version)
	tags := map[string]string{"lite": "nethttpomithttp2,lite", "full": "nethttpomithttp2,grpcnotrace"}[variant]
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", tags, "-gcflags=all=-l",
		"-gcflags=crypto/internal/fips140/edwards25519/...=", "-ldflags", "-s -w -funcalign=4 -X github.com/skerry-edge/skerry/agent.version="+version+
			" -X github.com/skerry-edge/skerry/agent.releaseKeys="+strings.Join(keys, ","), "-o", out, "../../cmd/skerry-edge")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, said)
	}
	return out, nil
}

// Release makes a release of one program, lite or full, for this machine, signed, as an archive to import.
func Release(version, program, variant string, key ed25519.PrivateKey) (io.Reader, error) {
	raw, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	if err := errors.Join(archive(zw, member{"skerry-edge-" + version + "/skerry-edge", raw}), zw.Close()); err != nil {
		return nil, err
	}
	name := "skerry-edge_" + version + "_" + variant + ".tar.gz"
	man := release.Manifest{Format: release.Format, Version: version, Commit: "test", Built: time.Unix(1790000000, 0).UTC(), Files: []release.File{{
		Name: name, SHA256: hexSum(packed.Bytes()), Size: int64(packed.Len()), Kind: release.KindArchive, Program: "skerry-edge", Variant: variant,
		Target: runtime.GOOS + "-" + runtime.GOARCH, ProgramSHA256: hexSum(raw), ProgramSize: int64(len(raw))}}}
	text, err := man.Encode()
	if err != nil {
		return nil, err
	}
	sig, err := release.Sign(text, key, "test")
	if err != nil {
		return nil, err
	}
	var all bytes.Buffer
	err = archive(&all, member{release.ManifestName, text}, member{release.SignatureName, sig}, member{name, packed.Bytes()})
	return &all, err
}

// member is a file of an archive.
type member struct {
	name    string
	content []byte
}

// archive writes a whole tar archive.
func archive(to io.Writer, members ...member) error {
	tw := tar.NewWriter(to)
	for _, m := range members {
		if err := tw.WriteHeader(&tar.Header{Name: m.name, Mode: 0o755, Size: int64(len(m.content)), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		if _, err := tw.Write(m.content); err != nil {
			return err
		}
	}
	return tw.Close()
}

func hexSum(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
