package bundle

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
)

// DiskUsage adds up the blocks below dir, which changes meanwhile.
func DiskUsage(ctx context.Context, dir string) (uint64, error) {
	var sum uint64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && err == nil {
			sum += uint64(st.Blocks) * 512
		}
		return err
	})
	return sum, err
}
