package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

const (
	copyBuffer = 64 << 10
	// heldBack is how much of the end is handed on only when all of it is verified: nobody gets wrong content whole.
	heldBack = 64 << 10
	// fruitless is how often in a row a registry may break off without a byte more.
	fruitless = 4
)

// flight is a blob on its way into the store, which any number of readers follow.
type flight struct {
	key  string // of the blob in the store
	path string // of the file that is written

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when anything below changes
	size    int64         // -1: not known yet
	have    int64         // written
	done    bool          // verified and in the store
	err     error
}

func (f *flight) update(set func()) {
	f.mu.Lock()
	set()
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
}

// state is what a reader may read up to, and what to wait for.
func (f *flight) state() (visible, size int64, changed <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	visible = f.have
	if !f.done {
		visible = max(0, f.have-heldBack)
	}
	return visible, f.size, f.changed, f.err
}

// join makes the flight of a blob, or finds the one that is under way. make fills its file; it runs once.
func (c *Cache) join(key string, produce func(ctx context.Context, f *flight) error) (*flight, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[key]; f != nil {
		return f, nil
	}
	if c.life.Err() != nil {
		return nil, errStopping
	}
	f := &flight{key: key, path: c.partPath(key), changed: make(chan struct{}), size: -1}
	c.flights[key] = f
	c.work.Add(1)
	go func() { // joined by Run
		defer c.work.Done()
		err := c.fly(f, produce)
		c.mu.Lock()
		delete(c.flights, key)
		c.mu.Unlock()
		f.update(func() { f.done, f.err = err == nil, err })
		if err != nil {
			c.stats.failures.Add(1)
			c.cfg.Log.Warn("image blob not fetched", agent.KeyReason, key, agent.KeyErr, err)
		}
	}()
	return f, nil
}

// fly runs a flight when there is a slot for it.
func (c *Cache) fly(f *flight, produce func(ctx context.Context, f *flight) error) error {
	select {
	case c.fetches <- struct{}{}:
		defer func() { <-c.fetches }()
	case <-c.life.Done():
		return errStopping
	}
	err := produce(c.life, f)
	if full(err) {
		_ = os.Remove(f.path) // it would keep the disk full
		err = &Refusal{http.StatusInsufficientStorage, "UNAVAILABLE", "the disk of the cluster agent's images is full: " + err.Error()}
	}
	return err
}

var errStopping = &Refusal{http.StatusServiceUnavailable, "UNAVAILABLE", "the cluster agent is being stopped"}

func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// download brings a blob of a repository from its registry. It goes on where a break, or the process before this one, left off.
func (c *Cache) download(repository, digest string) func(ctx context.Context, f *flight) error {
	return func(ctx context.Context, f *flight) (err error) {
		file, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		sum := sha256.New()
		have, err := io.CopyBuffer(sum, struct{ io.Reader }{file}, make([]byte, copyBuffer))
		if err != nil {
			return err
		}
		d := &transfer{Cache: c, flight: f, file: file, sum: sum, repository: repository, digest: digest, resumed: have > 0}
		defer func() { d.release() }()
		f.update(func() { f.have = have })
		if err := d.run(ctx); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
		d.release() // adopt counts it
		return c.adopt(f.path, f.key, f.size)
	}
}

// transfer is a download under way.
type transfer struct {
	*Cache
	*flight
	file               *os.File
	sum                hash.Hash
	repository, digest string
	resumed            bool
	reserved           int64
}

// release gives back what was set aside in the store.
func (d *transfer) release() {
	d.Cache.mu.Lock()
	d.Cache.bytes -= d.reserved
	d.Cache.mu.Unlock()
	d.reserved = 0
}

// run asks until all is there, and checks it.
func (d *transfer) run(ctx context.Context) error {
	for idle := 0; ; {
		before := d.have
		err := d.once(ctx)
		if err == nil {
			break
		}
		if _, refused := errors.AsType[*Refusal](err); refused || ctx.Err() != nil || full(err) {
			return err
		}
		if idle++; d.have > before {
			idle = 0
		}
		if idle >= fruitless {
			return err
		}
		if !agent.Wait(ctx, time.Second<<idle) {
			return errStopping
		}
	}
	if got := api.DigestPrefix + hex.EncodeToString(d.sum.Sum(nil)); got != d.digest {
		if err := os.Remove(d.path); err != nil {
			return err
		}
		return &Refusal{http.StatusBadGateway, "DIGEST_INVALID", fmt.Sprintf("the registry's content of %s has %s", d.digest, got)}
	}
	return nil
}

// once asks for what is missing and writes it.
func (d *transfer) once(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(d.cfg.Stall, func() { cancel(fmt.Errorf("registry: no byte for %s", d.cfg.Stall)) })
	defer watch.Stop()
	header := http.Header{}
	if d.have > 0 {
		span := "bytes=" + strconv.FormatInt(d.have, 10) + "-"
		if d.flight.size > d.have { // not every registry knows ranges without an end
			span += strconv.FormatInt(d.flight.size-1, 10)
		}
		header.Set("Range", span)
	}
	d.stats.upstreamTries.Add(1)
	resp, err := d.remote.get(ctx, http.MethodGet, d.repository, "blobs/"+d.digest, header)
	if err != nil {
		if statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
			return errors.Join(d.restart(), errors.New("the part did not fit; asking for all of it anew"))
		}
		return because(ctx, err)
	}
	defer resp.Body.Close()
	size := resp.ContentLength
	switch {
	case resp.StatusCode == http.StatusPartialContent && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", d.have)):
		if size >= 0 {
			size += d.have
		}
	case resp.StatusCode == http.StatusPartialContent:
		return fmt.Errorf("registry: asked from byte %d, and was given %q", d.have, resp.Header.Get("Content-Range"))
	case d.have > 0: // it knows no ranges: what is there is skipped
		if _, err := io.CopyBuffer(io.Discard, io.LimitReader(resp.Body, d.have), make([]byte, copyBuffer)); err != nil {
			return because(ctx, err)
		}
	}
	if err := d.expect(size); err != nil {
		return err
	}
	return because(ctx, d.copy(resp.Body, size, watch))
}

// restart throws away what is there.
func (d *transfer) restart() error {
	d.sum.Reset()
	d.update(func() { d.have = 0 })
	_, err := d.file.Seek(0, io.SeekStart)
	return errors.Join(err, d.file.Truncate(0))
}

// expect sets room aside for a blob of that size; below 0 it is not known.
func (d *transfer) expect(size int64) error {
	if size < 0 || d.flight.size >= 0 && d.flight.size == size {
		return nil
	}
	if d.flight.size >= 0 {
		return &Refusal{http.StatusBadGateway, "SIZE_INVALID", fmt.Sprintf("the registry says that %s has %d bytes, and had said %d", d.digest, size, d.flight.size)}
	}
	if err := d.reserve(size); err != nil {
		return err
	}
	d.reserved = size
	d.update(func() { d.flight.size = size })
	return nil
}

// copy writes what comes, within what was set aside.
func (d *transfer) copy(body io.Reader, size int64, watch *time.Timer) error {
	buf := make([]byte, copyBuffer)
	for {
		n, err := body.Read(buf)
		watch.Reset(d.cfg.Stall)
		if n > 0 {
			if size < 0 { // a registry that does not say how much comes: room is made as it does
				if rerr := d.reserve(int64(n)); rerr != nil {
					return rerr
				}
				d.reserved += int64(n)
			} else if d.have+int64(n) > size {
				return &Refusal{http.StatusBadGateway, "SIZE_INVALID", fmt.Sprintf("the registry sends more than the %d bytes of %s", size, d.digest)}
			}
			if _, werr := d.file.Write(buf[:n]); werr != nil {
				return werr
			}
			_, _ = d.sum.Write(buf[:n]) // never fails
			d.stats.fetchedBytes.Add(uint64(n))
			d.update(func() { d.have += int64(n) })
		}
		switch {
		case errors.Is(err, io.EOF) && size >= 0 && d.have < size:
			return fmt.Errorf("registry: ended after %d of %d bytes", d.have, size)
		case errors.Is(err, io.EOF):
			d.update(func() { d.flight.size = d.have })
			return nil
		case err != nil:
			return err
		}
	}
}

// because names the end of ctx in place of what it did to the connection.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
