package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

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

// report writes err for people and returns the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return ExitOK
	}
	if errors.Is(err, context.Canceled) {
		return 130 // as a shell reports SIGINT
	}
	code := ExitError
	if e, ok := errors.AsType[*exitError](err); ok {
		code = e.code
	} else if p, ok := errors.AsType[*api.Problem](err); ok {
		if code = codeOf(p.Status); p.Code == "transfer_failed" { // the node's refusal, not the cluster agent's absence
			code = ExitCommand
		}
	}
	if _, werr := fmt.Fprintln(w, "skerry:", err); werr != nil {
		return ExitError
	}
	return code
}

func codeOf(status int) int {
	switch status {
	case http.StatusNotFound:
		return ExitNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return ExitForbidden
	case http.StatusConflict:
		return ExitConflict
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return ExitUsage
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return ExitUnreachable
	}
	return ExitError
}
