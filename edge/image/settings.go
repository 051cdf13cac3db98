package image

import (
	"errors"
	"fmt"
	"log/slog"
)

// Settings is what a Store needs.
type Settings struct {
	Dir      string // the store is its folder images
	Site     Site
	Platform Platform // zero: that of this machine
	// MaxBytes and MaxEntries bound one image, unpacked; 0: 8 GiB and a million files.
	MaxBytes   int64
	MaxEntries int
	// ReserveBytes is disk space that a pull leaves free; 0: 64 MiB.
	ReserveBytes int64
	Log          *slog.Logger
}

const (
	defaultMaxBytes     = 8 << 30
	defaultMaxEntries   = 1_000_000
	defaultReserveBytes = 64 << 20
)

// check fills in what is left out.
func (c *Settings) check() error {
	if c.Dir == "" || c.Log == nil || c.Site.Endpoints == nil || c.Site.TLS == nil {
		return errors.New("image store: wanted Dir, Log, Site.Endpoints and Site.TLS")
	}
	if c.MaxBytes < 0 || c.MaxEntries < 0 || c.ReserveBytes < 0 {
		return fmt.Errorf("image store: MaxBytes %d, MaxEntries %d, ReserveBytes %d: wanted none below 0", c.MaxBytes, c.MaxEntries, c.ReserveBytes)
	}
	if c.Platform == (Platform{}) {
		c.Platform = Here()
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = defaultMaxBytes
	}
	if c.MaxEntries == 0 {
		c.MaxEntries = defaultMaxEntries
	}
	if c.ReserveBytes == 0 {
		c.ReserveBytes = defaultReserveBytes
	}
	return nil
}
