package verb

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/api"
)

// reserve is what a file verb leaves free on a disk: the agent's own state is on one too.
const reserve = 1 << 20

// room reports why size bytes do not fit beside dir (fstatfs(2)).
func room(dir *os.File, size int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return fmt.Errorf("ask for free space: %w", err)
	}
	free := int64(min(st.Bavail, 1<<40)) * int64(st.Bsize)
	if size+min(reserve, int64(st.Blocks)*int64(st.Bsize)/100) > free {
		return fmt.Errorf("%d bytes do not fit: %d are free: %w", size, free, unix.ENOSPC)
	}
	return nil
}

// copySum copies exactly size bytes and returns their SHA-256.
func copySum(to io.Writer, from io.Reader, size int64, report func(int64)) ([]byte, error) {
	sum := sha256.New()
	buf := make([]byte, api.MaxFrameData)
	var n int64
	for n < size {
		got, err := from.Read(buf[:min(int64(len(buf)), size-n)])
		sum.Write(buf[:got])
		if _, err := to.Write(buf[:got]); err != nil {
			return nil, err
		}
		n += int64(got)
		report(n)
		if errors.Is(err, io.EOF) && n < size {
			return nil, fmt.Errorf("content ended after %d bytes; wanted %d", n, size)
		}
		if err != nil && n < size {
			return nil, err
		}
	}
	return sum.Sum(nil), nil
}

// inbound reads what the other side sends on the channel of standard input.
type inbound struct {
	ctx    context.Context // of the action
	stream Stream
	rest   []byte
}

// Read waits for more.
func (r *inbound) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		number, data, err := r.stream.Read(r.ctx)
		if number == api.ChannelStdin && len(data) > 0 {
			r.rest = data
			break
		}
		if err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
