package description

import (
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"
)

// Sample is an object without its head, and what a server has to make of it.
type Sample struct {
	Kind string
	What string // in words
	Text string // YAML, as kubectl is given it
	// Refused is a part of the refusal, with the field's name; empty when it is accepted.
	Refused string
	// Dropped is the path of the field that the schema does not know.
	Dropped string
}

// ReadSamples reads a list of them.
func ReadSamples(path string) ([]Sample, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read samples: %w", err)
	}
	var out []Sample
	if err := yaml.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("read samples: %s: %w", path, err)
	}
	return out, nil
}
