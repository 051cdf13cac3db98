package telemetry

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Disk is the room that the store has. Reserve is what it leaves to others: it takes nothing when less is free. It is 0
// when the configuration says that everything may be used.
type Disk struct {
	Dir           string
	Free, Reserve int64 // bytes
}

// Disk looks at the disk of the store, which must exist.
func (s *Store) Disk() (Disk, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.cfg.Dir, &st); err != nil {
		return Disk{}, fmt.Errorf("statfs %s: %w", s.cfg.Dir, err)
	}
	d := Disk{Dir: s.cfg.Dir, Free: int64(st.Bavail) * st.Bsize, Reserve: max(s.cfg.ReserveBytes, 0)}
	if s.cfg.ReserveBytes == 0 {
		d.Reserve = min(defaultReserve, int64(st.Blocks)*st.Bsize/reserveShare)
	}
	return d, nil
}

// RemoteFault is a receiver that does not take what it is sent.
type RemoteFault struct {
	URL   string // without a password
	Since time.Time
	Err   error
}

// RemoteFaults lists the receivers that failed when they were last asked, the longest failing first.
func (s *Store) RemoteFaults() []RemoteFault {
	var out []RemoteFault
	for _, r := range s.remotes {
		if f := r.fault.Load(); f != nil {
			out = append(out, *f)
		}
	}
	slices.SortFunc(out, func(a, b RemoteFault) int { return cmp.Compare(a.Since.UnixNano(), b.Since.UnixNano()) })
	return out
}

// failed notes how a receiver took the last request; nil: well.
func (r *remote) failed(err error) {
	was := r.fault.Load()
	if err == nil {
		if was != nil {
			r.fault.Store(nil)
		}
		return
	}
	f := &RemoteFault{URL: r.cfg.URL, Since: r.store.cfg.Now(), Err: err}
	if u, err := url.Parse(r.cfg.URL); err == nil {
		f.URL = u.Redacted()
	}
	if was != nil {
		f.Since = was.Since
	}
	r.fault.Store(f)
}
