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
		if err == nil {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				if st, ok := info.Sys().(*syscall.Stat_t); ok {
					sum += uint64(st.Blocks) * 512
				}
			}
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // it has gone, or what it was in is something else now
			return nil
		}
		return err
	})
	return sum, err
}
