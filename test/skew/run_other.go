//go:build !amd64

package skew

import (
	"errors"
	"time"
)

// Can tells whether this machine can show a program a wrong clock.
const Can = false

// Run is for amd64 alone.
func Run(func() time.Duration, []string) (int, error) {
	return 0, errors.New("a wrong clock is shown to a program on amd64 alone")
}
