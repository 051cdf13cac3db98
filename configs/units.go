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
	return "0"
}

// maxDays are as many days as a time.Duration holds.
const maxDays = int64(math.MaxInt64 / (24 * time.Hour))

// ParseDuration reads a Go duration, or whole days such as 7d.
func ParseDuration(s string) (time.Duration, error) {
	text := strings.TrimSpace(s)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseInt(days, 10, 32); err == nil && n <= maxDays && n >= -maxDays {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q: wanted %s", s, wantedDuration)
	}
	return d, nil
}

// FormatDuration writes d as ParseDuration reads it: two or more whole days as 7d, and no parts that are zero.
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d.Abs() >= 2*day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if short, ok := strings.CutSuffix(text, "m0s"); ok {
		text = short + "m"
	}
	if short, ok := strings.CutSuffix(text, "h0m"); ok {
		text = short + "h"
	}
	return text
}

// Duration is a duration on the command line, a pflag.Value: flags.Var((*configs.Duration)(&d), …). What d holds by then
// is the default.
type Duration time.Duration

// Set reads text as ParseDuration does.
func (d *Duration) Set(text string) error {
	v, err := ParseDuration(text)
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// String writes the duration; zero is "0", which a help text leaves out.
func (d *Duration) String() string {
	if *d == 0 {
		return "0"
	}
	return FormatDuration(time.Duration(*d))
}

// Type is what a help text calls the value.
func (d *Duration) Type() string { return "duration" }
