package release

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// ErrContent tells which file is not what its manifest says.
type ErrContent struct {
	Name, What, Got, Want string
}

func (e *ErrContent) Error() string {
	return fmt.Sprintf("%s: %s %s; wanted %s", e.Name, e.What, e.Got, e.Want)
}

// Check reads all of r, and returns nil only if that is the file f. What is beyond its size is not read.
func (f File) Check(r io.Reader) error { return check(f.Name, r, f.Size, f.SHA256) }

// CheckProgram is Check for the executable inside the archive f.
func (f File) CheckProgram(r io.Reader) error {
	if f.ProgramSHA256 == "" {
		return fmt.Errorf("%s holds no program", f.Name)
	}
	return check(f.Name+": "+f.Program, r, f.ProgramSize, f.ProgramSHA256)
}

func check(name string, r io.Reader, size int64, want string) error {
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(r, size+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if n != size {
		got := fmt.Sprintf("%d", n)
		if n > size {
			got = fmt.Sprintf("more than %d", size)
		}
		return &ErrContent{name, "size", got, fmt.Sprintf("%d bytes", size)}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return &ErrContent{name, "sha256", got, want}
	}
	return nil
}
