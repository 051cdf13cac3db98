// Package verifier is the command line of skerry-verify: for the installer, on machines without a tool that knows Ed25519.
package verifier

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/skerry-edge/skerry/agent/release"
)

const usage = `usage: skerry-verify KEY[,KEY…] MANIFEST SIGNATURE [FILE…]

Exits with 0 only if one of the keys signed the manifest, and each file, found in it by its name, has the size and hash that it says.
Exits with 1 if not, telling why, and with 2 when called wrongly.
`

// Main runs the command line args (without the program's name) and returns the exit code.
func Main(args []string, out, errs io.Writer) int {
	if len(args) < 3 {
		_, _ = fmt.Fprint(errs, usage)
		return 2
	}
	m, err := verify(args[0], args[1], args[2], args[3:])
	if err != nil {
		_, _ = fmt.Fprintf(errs, "skerry-verify: %v\n", err)
		return 1
	}
	if _, err := fmt.Fprintf(out, "release %s: signature and %d files are good\n", m.Version, len(args)-3); err != nil {
		return 1
	}
	return 0
}

func verify(keyList, manifest, signature string, files []string) (release.Manifest, error) {
	var keys []release.Key
	for text := range strings.SplitSeq(keyList, ",") {
		key, err := release.ParseKey(text)
		if err != nil {
			return release.Manifest{}, err
		}
		keys = append(keys, key)
	}
	raw, err := readAtMost(manifest, release.MaxManifestBytes)
	if err != nil {
		return release.Manifest{}, err
	}
	sig, err := readAtMost(signature, release.MaxSignatureBytes)
	if err != nil {
		return release.Manifest{}, err
	}
	m, err := release.Verify(raw, sig, keys)
	if err != nil {
		return release.Manifest{}, err
	}
	for _, path := range files {
		f, err := m.FileNamed(filepath.Base(path))
		if err != nil {
			return m, err
		}
		if err := checkFile(f, path); err != nil {
			return m, err
		}
	}
	return m, nil
}

func checkFile(f release.File, path string) error {
	r, err := os.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	return f.Check(r)
}

// readAtMost reads one byte more than limit of a larger file, so that its reader can refuse it.
func readAtMost(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit+1))
}
