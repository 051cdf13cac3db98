package store

import (
	"fmt"
	"os"
	"runtime/debug"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// openWriting opens path for writing: then bbolt looks for free pages, and tells of keys out of order by a panic. What it holds
// of the file is undone by hand then, the lock most of all (flock(2)): the mapping alone stays until the process ends.
func openWriting(path string) (db *bbolt.DB, err error) {
	var file *os.File
	defer func() {
		if r := recover(); r != nil {
			if file != nil {
				_ = unix.Flock(int(file.Fd()), unix.LOCK_UN) // both fail only when bbolt has closed it already
				_ = file.Close()
			}
			db, err = nil, fmt.Errorf("open %s: %v: %w", path, r, errDamaged)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
		OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, perm)
			file = f
			return f, err
		}})
	if err != nil {
		return nil, openError(path, err)
	}
	return db, nil
}
