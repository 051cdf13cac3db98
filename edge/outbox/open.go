package outbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/skerry-edge/skerry/agent"
)

// maxOpenings is how many starts may die over one outbox.db before it is set aside unread: some damage makes bbolt run
// out of memory or in circles, which cannot be caught.
const maxOpenings = 3

// Open opens the outbox in cfg's directories, creating them (0700), and takes up what an earlier life of the agent left
// there, however it ended. Damage and a full or failing flash never keep it from opening: they are counted and reported
// as events. An error means that the configuration is wrong, another process uses the outbox, or RuntimeDir cannot be
// used.
func Open(cfg Config) (*Outbox, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	h, fd, lock, err := openTiers(&cfg)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	o := &Outbox{cfg: cfg, boot: bootDigest(cfg.Boot), lock: lock, kick: make(chan struct{}, 1), hot: h,
		cold: newCold(filepath.Join(cfg.Dir, "outbox.db")), st: fd.state, downAt: now, flights: map[lane]*flight{}, opened: cfg.Epoch, tried: map[lane]uint64{}, shifts: map[stamped]int64{},
		pace: pace{rate: float64(cfg.ReplayBytesPerSecond)}, flushAt: now, unsaved: true}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.st.Opens++
	if cfg.Volatile {
		o.cold.known = true // and empty for good
	} else {
		o.takeUpCold()
	}
	o.takeUpHot(fd)
	countLost(&o.st.Dropped, &o.st.Alone, &tally{})
	o.st.Alone = tally{}
	o.adopt()
	o.number(fd)
	o.tell()
	o.compact()
	o.restCold()
	return o, nil
}

// openTiers opens the hot tier, and takes the lock that keeps others from it and from flash.
func openTiers(cfg *Config) (*hot, *found, *os.File, error) {
	if cfg.Volatile {
		h, fd := volatileHot()
		return h, fd, nil, nil
	}
	if err := os.MkdirAll(cfg.RuntimeDir, 0o700); err != nil {
		return nil, nil, nil, fmt.Errorf("create runtime directory: %w", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		cfg.Log.Warn("outbox directory not created", agent.KeyErr, err) // as with a full flash: go on without
	}
	lock, err := lockDir(cfg.RuntimeDir)
	if err != nil {
		return nil, nil, nil, err
	}
	h, fd, err := openHot(filepath.Join(cfg.RuntimeDir, "outbox.hot"))
	if err != nil {
		return nil, nil, nil, errors.Join(err, lock.Close())
	}
	return h, fd, lock, nil
}

// takeUpCold reads the flash tier, if there is one, and counts what damage took. It is called again before flash is
// written when it could not be read before.
func (o *Outbox) takeUpCold() {
	if !o.cold.exists() {
		// Without the file its records are gone, and so is the reason to expect them.
		if !o.st.Cold.empty() {
			o.replaced()
		}
		o.st.Cold = tally{}
		o.cold.known = true
		return
	}
	tries := o.openings()
	if tries >= maxOpenings {
		o.mend(errors.New("agent died over it repeatedly"), false)
	} else {
		o.noteOpenings(tries + 1)
		st, err := o.cold.verify()
		if err == nil {
			if o.st.Version > st.Version && (o.cold.phys.less(&o.st.Cold)) {
				o.replaced()
			}
			o.st = newest(o.st, st)
			o.st.Cold, o.inFlash = o.cold.phys, st.Dropped
		}
		o.tend(err)
	}
	o.noteOpenings(0)
}

// replaced counts what is missing from a sound outbox.db that holds less than it should: an emptied or an older one.
func (o *Outbox) replaced() {
	o.st.Corruptions++
	before := o.st.Dropped
	countLost(&o.st.Dropped, &o.st.Cold, &o.cold.phys)
	o.note("outbox.corrupt", "outbox.db", "a damaged outbox.db was found: it is not the one that was left", lostSince(before, o.st.Dropped))
}

// coldLast is the greatest key of s in flash.
func (o *Outbox) coldLast(s stream) key {
	for range 2 {
		k, err := o.cold.last(s)
		if err == nil {
			return k
		}
		o.tend(err) // what was salvaged is worth a second look
	}
	return key{}
}

func (o *Outbox) openingsPath() string { return filepath.Join(o.cfg.RuntimeDir, "outbox.opening") }

// openings is how many starts in a row died between opening outbox.db and having read it.
func (o *Outbox) openings() int {
	raw, err := os.ReadFile(o.openingsPath())
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(string(raw))
	if err != nil {
		return 0
	}
	return n
}

func (o *Outbox) noteOpenings(n int) {
	err := os.Remove(o.openingsPath())
	if n > 0 {
		err = os.WriteFile(o.openingsPath(), []byte(strconv.Itoa(n)), 0o600)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		o.cfg.Log.Warn("outbox opening not noted", agent.KeyErr, err)
	}
}

// takeUpHot settles what the hot file told against the flash tier.
func (o *Outbox) takeUpHot(fd *found) {
	for l, seq := range fd.acks {
		o.tend(o.cold.ack(l, seq))
	}
	// Records go to flash oldest first. What is in both was written to flash just before the process was killed.
	for s := range streams {
		last := o.coldLast(s)
		for len(o.hot.index[s]) > 0 && !last.less(o.hot.index[s][0].key) {
			o.hot.remove(s, o.hot.index[s][0].key)
		}
		fd.excuse(func(m *meta) bool { return m.class.stream() == s && !last.less(m.key) })
	}
	if fd.torn == 0 && fd.unknown == 0 {
		return
	}
	o.st.Torn += uint64(fd.torn)
	o.st.Unreadable += uint64(fd.unknown)
	before := o.st.Dropped
	for i := range fd.lost {
		countDropped(&o.st.Dropped, &fd.lost[i])
	}
	data := lostSince(before, o.st.Dropped)
	data["stretches"], data["records"] = strconv.Itoa(fd.torn), strconv.Itoa(len(fd.lost))
	data["unreadable_bytes"] = strconv.FormatInt(fd.unknown, 10)
	o.note("outbox.torn", "outbox.hot", "damaged records of the hot file were left out", data)
}

// number finds the epoch and the first numbers of this life. A number that may have been used is not used again.
func (o *Outbox) number(fd *found) {
	o.epoch = o.cfg.Epoch
	var top [streams]key
	for l, seq := range fd.acks {
		top[l.stream] = later(top[l.stream], key{l.epoch, seq})
	}
	for s := range streams {
		if n := len(o.hot.index[s]); n > 0 {
			top[s] = later(top[s], o.hot.index[s][n-1].key)
		}
		last := o.coldLast(s)
		top[s] = later(top[s], last)
		if top[s].epoch > o.epoch {
			o.cfg.Log.Error("session epoch fell behind the outbox", agent.KeyEpoch, o.epoch)
			o.epoch = top[s].epoch + 1
		}
	}
	for s := range streams {
		o.next[s] = 1
		if top[s].epoch == o.epoch {
			o.next[s] = top[s].seq + 1
		}
		o.liveFrom[s] = ^uint64(0)
	}
}

func later(a, b key) key {
	if a.less(b) {
		return b
	}
	return a
}
