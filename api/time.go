package api

import "time"

// Millis is an instant in milliseconds since the Unix epoch: the form of every instant on the wire. Zero means unset.
type Millis int64

// At converts t, losing what is finer than a millisecond. The zero time becomes 0.
func At(t time.Time) Millis {
	if t.IsZero() {
		return 0
	}
	return Millis(t.UnixMilli())
}

// Time returns the instant in UTC, or the zero time when unset.
func (m Millis) Time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(m)).UTC()
}
