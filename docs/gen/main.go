// Command gen writes the generated pages of docs/: the MQTT reference and its AsyncAPI document from mqtt.Contract, the
// OpenAPI document from package rest, the command line's reference from its command tree. A test fails when one is
// stale.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	pages, err := generate(root)
	if err == nil {
		err = write(filepath.Join(root, "docs"), pages)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// generate returns every page by its file name under docs/. root is the module's directory.
func generate(root string) (map[string]string, error) {
	comments, err := readComments(filepath.Join(root, "api"))
	if err != nil {
		return nil, err
	}
	pages := map[string]string{"mqtt.md": mqttPage(comments), "cli.md": cliPage()}
	if pages["asyncapi.yaml"], err = asyncAPI(comments); err != nil {
		return nil, err
	}
	if pages["openapi.yaml"], err = openAPI(); err != nil {
		return nil, err
	}
	return pages, nil
}

func write(dir string, pages map[string]string) error {
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
