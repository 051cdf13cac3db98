package configs

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size. Its text form takes the suffixes B, KiB, MiB, GiB, TiB, and none for bytes.
type Bytes int64

var byteUnits = []struct {
	suffix string
	factor float64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

// What is wanted where a size or a duration cannot be read.
const (
	wantedBytes    = "a size such as 512KiB, 16MiB or 2GiB"
	wantedDuration = "a duration such as 500ms, 10s, 5m or 7d"
)

// ParseBytes reads a size such as 16MiB.
func ParseBytes(s string) (Bytes, error) {
	text := strings.TrimSpace(s)
	for _, u := range byteUnits {
		number, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || n < 0 || n*u.factor > math.MaxInt64/2 || math.IsNaN(n) {
			break
		}
		return Bytes(n * u.factor), nil
	}
	return 0, fmt.Errorf("%q: wanted %s", s, wantedBytes)
}

// String writes the size with the largest unit that leaves a whole number.
func (b Bytes) String() string {
	for _, u := range byteUnits {
		if f := Bytes(u.factor); b != 0 && b%f == 0 {
			return strconv.FormatInt(int64(b/f), 10) + u.suffix
		}
	}
	return "0B"
}

// ParseDuration reads a Go duration, or whole days such as 7d.
func ParseDuration(s string) (time.Duration, error) {
	text := strings.TrimSpace(s)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseInt(days, 10, 32); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q: wanted %s", s, wantedDuration)
	}
	return d, nil
}
