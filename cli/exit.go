package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// The exit codes. They are part of the interface.
const (
	ExitOK          = 0
	ExitError       = 1
	ExitUsage       = 2
	ExitNotFound    = 3
	ExitForbidden   = 4
	ExitUnreachable = 5
	ExitConflict    = 6
	ExitCommand     = 7 // a command ended otherwise than succeeded
	ExitTimeout     = 8 // still not finished when --timeout had passed

	exitSignal = 130 // as a shell reports SIGINT
)

// exitError carries an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func fail(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// usage marks err as the user's mistake on the command line.
func usage(err error) error { return &exitError{ExitUsage, err} }

// positive checks the duration of a flag, which counts also when it was not given.
func positive(flag string, d time.Duration) error {
	if d > 0 {
		return nil
	}
	return usage(fmt.Errorf("--%s %s: wanted a duration above zero, such as 1h", flag, d))
}

// report writes err for people and returns the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return ExitOK
	}
	if errors.Is(err, context.Canceled) {
		return exitSignal
	}
	code := exitCode(err)
	if _, werr := fmt.Fprintln(w, "skerry:", readable(err)); werr != nil {
		return ExitError
	}
	return code
}

// exitCode is the code that err stands for.
func exitCode(err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if p, ok := errors.AsType[*api.Problem](err); ok {
		if p.Code == "transfer_failed" { // the node's refusal, not the cluster agent's absence
			return ExitCommand
		}
		return codeOf(p.Status)
	}
	return ExitError
}

// readable is err line by line, without what could move the cursor: parts of it come from elsewhere.
func readable(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}

func codeOf(status int) int {
	switch status {
	case http.StatusNotFound:
		return ExitNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return ExitForbidden
	case http.StatusConflict:
		return ExitConflict
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return ExitUsage
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return ExitUnreachable
	}
	return ExitError
}
