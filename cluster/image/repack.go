package image

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/klauspost/compress/zstd"
)

// repackedSuffix is that of a blob which is what another one was, as gzip.
const repackedSuffix = ".gz"

// zstdWindow bounds the memory of a decoder: what zstd itself takes unasked.
const zstdWindow = 128 << 20

// repacked opens a zstd layer as gzip, and makes that when it is not here. Whoever reads it checks what is inside against the
// image's configuration, which tells the digest of each layer's content however it is packed.
func (c *Cache) repacked(ctx context.Context, repository, digest string) (io.ReadSeekCloser, error) {
	key := digest + repackedSuffix
	if f, err := c.file(key); f != nil || err != nil {
		c.stats.hits.Add(1)
		return f, err
	}
	in, err := c.blob(ctx, repository, digest) // first, as it takes a slot of its own
	if err != nil {
		return nil, err
	}
	_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{in}, make([]byte, copyBuffer)) // all of it, verified
	if err = errors.Join(err, in.Close()); err != nil {
		return nil, err
	}
	return c.follow(ctx, key, func(ctx context.Context, f *flight) error { return c.repack(ctx, f, digest) })
}

func (c *Cache) repack(ctx context.Context, f *flight, digest string) (err error) {
	in, err := os.Open(c.blobPath(digest))
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	out, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := &bounded{cache: c, ctx: ctx, w: out}
	defer func() {
		c.mu.Lock()
		c.bytes -= w.reserved // adopt counts it
		c.mu.Unlock()
	}()
	err = errors.Join(convert(w, in), out.Sync(), out.Close())
	if err != nil {
		return errors.Join(err, os.Remove(f.path))
	}
	c.stats.repacked.Add(1)
	f.update(func() { f.have, f.size = w.reserved, w.reserved })
	return c.adopt(f.path, f.key, w.reserved)
}

func convert(w io.Writer, in io.Reader) error {
	z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return fmt.Errorf("read zstd: %w", err)
	}
	defer z.Close()
	g, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(g, struct{ io.Reader }{z}, make([]byte, copyBuffer)); err != nil {
		if _, refused := errors.AsType[*Refusal](err); refused || full(err) || errors.Is(err, context.Canceled) {
			return err
		}
		return refuse(http.StatusBadGateway, "BLOB_INVALID", "layer is not what its type says: %v", err)
	}
	return g.Close()
}

// bounded sets room aside for what it writes.
type bounded struct {
	cache    *Cache
	ctx      context.Context
	w        io.Writer
	reserved int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if err := b.cache.reserve(int64(len(p))); err != nil {
		return 0, err
	}
	b.reserved += int64(len(p))
	return b.w.Write(p)
}
