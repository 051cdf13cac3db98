package agent

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// Notify speaks sd_notify(3) to the service manager: a datagram of VAR=value lines to $NOTIFY_SOCKET. It is a no-op
// when the variable is unset. go-systemd is one import away, but drags nothing the edge wants beyond these few lines.
func Notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if path[0] == '@' { // abstract namespace
		path = "\x00" + path[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	return nil
}

// maxWatchdog bounds what is believed of $WATCHDOG_USEC.
const maxWatchdog = 24 * time.Hour

// Watchdog tells the service manager that the agent lives, at half the interval it asked for with $WATCHDOG_USEC
// (sd_watchdog_enabled(3)), as long as alive returns nil. It only waits for ctx when no watchdog is asked for.
func Watchdog(ctx context.Context, alive func() error) error {
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || usec > maxWatchdog.Microseconds() {
		<-ctx.Done()
		return nil
	}
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(time.Duration(usec) * time.Microsecond / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := alive(); err != nil {
				continue // silence is the message: the service manager restarts us
			}
			if err := Notify("WATCHDOG=1"); err != nil {
				return err
			}
		}
	}
}
