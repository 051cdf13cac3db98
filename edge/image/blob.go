package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

const (
	partSuffix = ".part"
	// fruitless is how often in a row a download may break off without a byte more.
	fruitless  = 3
	copyBuffer = 32 << 10
)

// pauseAfterCut is between two tries of one download.
const pauseAfterCut = time.Second

// blob is content on its way into the store.
type blob struct {
	name string // of the repository
	descriptor
	// gzip asks for a zstd layer packed anew by the cluster agent: neither size nor digest of that are known, and what is in it
	// is checked when it is unpacked.
	gzip bool
	done func(n int64) // told what has come; may be nil
}

// file is the name of the blob in the store.
func (b *blob) file() string {
	if b.gzip {
		return b.hex() + ".gz"
	}
	return b.hex()
}

func (b *blob) etag() string {
	if b.gzip {
		return `"gzip:` + b.Digest + `"`
	}
	return `"` + b.Digest + `"`
}

// fetch makes a blob present, verified, and returns its path.
func (s *Store) fetch(ctx context.Context, b *blob) (path string, err error) {
	unlock, err := s.lock(ctx, b.file())
	if err != nil {
		return "", err
	}
	defer unlock()
	path = s.path(dirBlobs, b.file())
	if info, err := os.Stat(path); err == nil && (b.gzip || info.Size() == b.Size) {
		b.tell(info.Size())
		return path, nil
	}
	for idle := 0; ; {
		before := s.partSize(b)
		err = s.download(ctx, b)
		var refused *refusalError
		if err == nil || ctx.Err() != nil || errors.As(err, &refused) || isBad(err) || full(err) {
			break
		}
		if idle++; s.partSize(b) > before {
			idle = 0
		}
		if idle >= fruitless || !agent.Wait(ctx, pauseAfterCut) {
			break
		}
	}
	if full(err) {
		_ = os.Remove(s.partPath(b)) // it would keep the disk full
	}
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", b.Digest, err)
	}
	return path, nil
}

func (b *blob) tell(n int64) {
	if b.done != nil {
		b.done(n)
	}
}

func (s *Store) partPath(b *blob) string { return s.path(dirTmp, b.file()+partSuffix) }

func (s *Store) partSize(b *blob) int64 {
	info, err := os.Stat(s.partPath(b))
	if err != nil {
		return 0
	}
	return info.Size()
}

// download goes on with a part until the blob is whole, and takes it into the store.
func (s *Store) download(ctx context.Context, b *blob) (err error) {
	f, err := os.OpenFile(s.partPath(b), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	have, err := io.CopyBuffer(sum, f, make([]byte, copyBuffer))
	if err != nil {
		return err
	}
	resumed := have > 0
	if b.gzip || have < b.Size {
		if have, resumed, err = s.receive(ctx, b, f, sum, have); err != nil {
			return err
		}
	}
	if got := api.DigestPrefix + hex.EncodeToString(sum.Sum(nil)); !b.gzip && (got != b.Digest || have != b.Size) {
		if err := f.Truncate(0); err != nil {
			return err
		}
		if resumed { // what was there before was no part of it
			return fmt.Errorf("content has %s; asking for all of it anew", got)
		}
		return badImage("content has %s and %d bytes; wanted %s and %d", got, have, b.Digest, b.Size)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(s.partPath(b), s.path(dirBlobs, b.file())); err != nil {
		return err
	}
	return syncDir(s.path(dirBlobs))
}

// receive asks for what is missing and appends it. It returns what is there then, and whether some of it was before.
func (s *Store) receive(ctx context.Context, b *blob, f *os.File, sum hash.Hash, have int64) (int64, bool, error) {
	var header []string
	if have > 0 {
		header = []string{fmt.Sprintf("Range: bytes=%d-", have), "If-Range: " + b.etag()}
	}
	path := "/v1/images/" + b.name + "/blobs/" + b.Digest
	if b.gzip {
		path += "?as=gzip"
	}
	a, err := s.cfg.Site.get(ctx, path, "*/*", header...)
	var refused *refusalError
	if errors.As(err, &refused) && refused.code == 416 { // the part is longer than all of it
		return 0, false, errors.Join(f.Truncate(0), errors.New("the part did not fit; asking for all of it anew"))
	}
	if err != nil {
		return have, false, err
	}
	defer func() { _ = a.Close() }() // all that counts was read
	left := s.cfg.MaxBytes
	if !b.gzip {
		left = b.Size - have
	}
	if a.Code != 206 || !strings.HasPrefix(a.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(have, 10)+"-") {
		if a.Code == 206 {
			return have, false, fmt.Errorf("asked from byte %d, and was given %q", have, a.Header.Get("Content-Range"))
		}
		left += have
		have = 0
		sum.Reset()
		if err := f.Truncate(0); err != nil {
			return 0, false, err
		}
	}
	from := have
	if _, err := f.Seek(have, io.SeekStart); err != nil {
		return have, false, err
	}
	in := io.TeeReader(&counted{io.LimitReader(a, left), func(n int) { have += int64(n); b.tell(have) }}, sum)
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, in, make([]byte, copyBuffer)); err != nil {
		return have, from > 0, err
	}
	if b.gzip && have == s.cfg.MaxBytes {
		return have, from > 0, badImage("layer has %d bytes and more; wanted at most %d", have, s.cfg.MaxBytes)
	}
	if !b.gzip && have < b.Size {
		return have, from > 0, fmt.Errorf("ended after %d of %d bytes", have, b.Size)
	}
	return have, from > 0, nil
}

// counted tells how much was read.
type counted struct {
	io.Reader
	tell func(n int)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.tell(n)
	return n, err
}

// small returns a blob that fits into memory, out of the store when it is there.
func (s *Store) small(ctx context.Context, name string, d descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, badImage("%s has %d bytes; wanted at most %d", d.Digest, d.Size, limit)
	}
	path, err := s.fetch(ctx, &blob{name: name, descriptor: d})
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path)
	if err == nil && digestOf(raw) != d.Digest { // the flash has lost it
		return nil, errors.Join(fmt.Errorf("%s is damaged on this disk; it is fetched anew", d.Digest), os.Remove(path))
	}
	return raw, err
}

// full is whether a disk, or somebody's share of one, has no room left.
func full(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
