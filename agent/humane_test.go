package agent

import (
	"testing"
	"time"
)

func TestNumbersAreForPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Second: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 47 * time.Hour: "47h",
		2160 * time.Hour: "90d"} {
		if got := Span(d); got != want {
			t.Errorf("%s: %s; wanted %s", d, got, want)
		}
	}
	for n, want := range map[float64]string{0: "0 B", 1023: "1023 B", 4208738: "4.0 MiB", 5 << 40: "5.0 TiB"} {
		if got := Size(n); got != want {
			t.Errorf("%.0f: %s; wanted %s", n, got, want)
		}
	}
}
