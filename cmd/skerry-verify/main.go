// Command skerry-verify checks a release's manifest and files.
package main

import (
	"os"

	"github.com/skerry-edge/skerry/agent/release/verifier"
)

func main() { os.Exit(verifier.Main(os.Args[1:], os.Stdout, os.Stderr)) }
