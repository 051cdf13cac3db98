package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// assemble unpacks layers one over the other and takes the result into the store, whole or not at all.
func (p *pull) assemble(ctx context.Context, img *Image, layers []layer, ids []string) error {
	tmp, err := os.MkdirTemp(p.path(dirTmp), "unpack-")
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	err = p.fill(ctx, tmp, img, layers, ids)
	if err == nil {
		err = p.commit(tmp, img)
	}
	if err != nil {
		if rerr := removeAll(tmp); rerr != nil {
			p.cfg.Log.Warn("unpacked files stay until the next start", agent.KeyPath, tmp, agent.KeyErr, rerr)
		}
		return fmt.Errorf("unpack: %w", err)
	}
	return nil
}

func (p *pull) fill(ctx context.Context, tmp string, img *Image, layers []layer, ids []string) error {
	dir := filepath.Join(tmp, rootName)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask is: a container's root has to be entered
		return err
	}
	u, err := newUnpacker(dir, p.cfg.MaxBytes, p.cfg.MaxEntries)
	if err != nil {
		return err
	}
	defer func() { _ = u.root.Close() }() // a directory that was only looked up
	for i, l := range layers {
		if err := p.apply(ctx, u, l, ids[i], img.Module); err != nil {
			if isBad(err) { // what was packed anew was not known to be right
				_ = os.Remove(p.path(dirBlobs, l.hex()+".gz"))
			}
			return fmt.Errorf("layer %d of %d, %s: %w", i+1, len(layers), l.Digest, err)
		}
	}
	img.Bytes = u.bytes
	return u.finish()
}

// apply unpacks one layer, and checks that what was in it is what the image's configuration says.
func (p *pull) apply(ctx context.Context, u *unpacker, l layer, id, module string) error {
	f, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	sum := sha256.New()
	plain, err := decompressed(&withContext{ctx, f}, l.descriptor)
	if err != nil {
		return err
	}
	in := io.TeeReader(io.LimitReader(plain, p.cfg.MaxBytes+1), sum) // one more shows that there is more
	if module != "" {
		err = u.module(in, module)
	} else {
		err = u.layer(in)
	}
	if err != nil {
		return err
	}
	if n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{in}, make([]byte, copyBuffer)); err != nil || n > p.cfg.MaxBytes { // what follows the archive counts too
		return corrupt(err)
	}
	if got := api.DigestPrefix + hex.EncodeToString(sum.Sum(nil)); got != id {
		return badImage("content has %s; wanted %s", got, id)
	}
	return nil
}

var (
	magicGzip = []byte{0x1f, 0x8b}
	magicZstd = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// decompressed looks at how a layer really is packed: tools are not careful with its media type.
func decompressed(f io.Reader, d descriptor) (io.Reader, error) {
	in := bufio.NewReaderSize(f, copyBuffer)
	head, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, magicGzip):
		z, err := gzip.NewReader(in)
		return z, corrupt(err)
	case bytes.HasPrefix(head, magicZstd):
		return nil, badImage("layer of type %s is packed with zstd, and says so nowhere; push the image again with gzip", d.MediaType)
	}
	return in, nil
}

// corrupt makes a fault of what was read one of the image; those of the disk and the end of ctx stay what they are.
func corrupt(err error) error {
	var errno unix.Errno
	if err == nil || errors.As(err, &errno) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || isBad(err) {
		return err
	}
	return badImage("layer cannot be read: %v", err)
}

// withContext reads until ctx ends.
type withContext struct {
	ctx context.Context
	r   io.Reader
}

func (w *withContext) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.r.Read(p)
}

// commit writes all that was unpacked to the disk and gives it its name. The image is there from the rename on.
func (p *pull) commit(tmp string, img *Image) error {
	raw, err := json.Marshal(img)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, fileMeta), raw, 0o600); err != nil {
		return err
	}
	d, err := os.Open(tmp)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Syncfs(int(d.Fd())), d.Close()); err != nil { // one call for thousands of files
		return err
	}
	if err := os.Rename(tmp, p.path(dirRoots, descriptor{Digest: img.Digest}.hex())); err != nil {
		return err
	}
	return syncDir(p.path(dirRoots))
}
