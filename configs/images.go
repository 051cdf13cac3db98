package configs

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"

	"github.com/skerry-edge/skerry/api"
)

// Images is the cluster agent's cache of container images.
type Images struct {
	Enabled         bool            `mapstructure:"enabled"`
	Dir             string          `mapstructure:"dir"`
	MaxBytes        Bytes           `mapstructure:"max_bytes"`
	Fetches         int             `mapstructure:"fetches"`
	Pulls           int             `mapstructure:"pulls"`
	CredentialsFile string          `mapstructure:"credentials_file"`
	OnlyListed      bool            `mapstructure:"only_listed"`
	Registries      []ImageRegistry `mapstructure:"registries"`
}

// ImageRegistry is what is special about one registry.
type ImageRegistry struct {
	Name     string   `mapstructure:"name"`
	Mirrors  []string `mapstructure:"mirrors"`
	Insecure bool     `mapstructure:"insecure"`
	CAFile   string   `mapstructure:"ca_file"`
}

func (i Images) validate(bad *faults) {
	bad.need(i.Dir == "" || filepath.IsAbs(i.Dir), "images.dir", i.Dir, "an absolute path, or nothing")
	bad.need(i.MaxBytes >= 64<<20, "images.max_bytes", i.MaxBytes, "at least 64MiB")
	bad.need(i.Fetches >= 1 && i.Fetches <= 64, "images.fetches", i.Fetches, "1 to 64")
	bad.need(i.Pulls >= 1 && i.Pulls <= 10000, "images.pulls", i.Pulls, "1 to 10000")
	bad.need(i.CredentialsFile == "" || filepath.IsAbs(i.CredentialsFile), "images.credentials_file", i.CredentialsFile, "an absolute path")
	var seen []string
	for n, r := range i.Registries {
		at := fmt.Sprintf("images.registries[%d].", n)
		name, err := api.ParseImageName(r.Name + "/x/y")
		bad.need(err == nil && name.Registry == r.Name, at+"name", r.Name, "a registry as images name it, such as docker.io or 10.0.0.5:5000")
		bad.need(!slices.Contains(seen, r.Name), at+"name", r.Name, "each registry once")
		seen = append(seen, r.Name)
		bad.need(r.CAFile == "" || filepath.IsAbs(r.CAFile), at+"ca_file", r.CAFile, "an absolute path")
		for _, m := range r.Mirrors {
			u, err := url.Parse(m)
			bad.need(err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "",
				at+"mirrors", m, "https://host, or http://host for one without TLS")
		}
	}
}
