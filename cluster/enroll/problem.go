package enroll

import (
	"fmt"
	"net/http"

	"github.com/skerry-edge/skerry/api"
)

// The codes of the problems that this package answers. They are stable; programs tell cases apart by them.
const (
	CodeBody           = "body_invalid"
	CodeBodyTooLarge   = "body_too_large"
	CodeMethod         = "method_not_allowed"
	CodePath           = "not_found"
	CodeCSR            = "csr_invalid"
	CodeCSRKey         = "csr_key_unsupported"
	CodeTokenInvalid   = "token_invalid" // unknown id or wrong secret: which of them is nobody's business
	CodeTokenExpired   = "token_expired"
	CodeTokenUsedUp    = "token_used_up"
	CodeTokenRevoked   = "token_revoked"
	CodeTokenArgs      = "token_arguments"
	CodeTokenUnknown   = "token_unknown" // to an administrator
	CodeNodeExists     = "node_exists"
	CodeKeyInUse       = "key_in_use"
	CodeDenied         = "enrollment_denied"
	CodePendingFull    = "pending_full"
	CodePendingUnknown = "enrollment_unknown"
	CodePendingChanged = "enrollment_changed"
	CodeTooMany        = "too_many_requests"
	CodeTooManyFailed  = "too_many_failures"
	CodeCertMissing    = "certificate_missing"
	CodeCertUntrusted  = "certificate_untrusted"
	CodeCertExpired    = "certificate_expired"
	CodeCertGraceOver  = "certificate_grace_over"
	CodeCertRevoked    = "certificate_revoked"
	CodeCertReplaced   = "certificate_replaced" // the node has another key now
	CodeCertKind       = "certificate_kind"     // good, but not for this
	CodeKeyMismatch    = "key_mismatch"
	CodeNodeRemoved    = api.CodeNodeRemoved
	CodeNodeUnknown    = "node_unknown"
	CodeOperatorArgs   = "operator_arguments"
	CodeOperatorGone   = "operator_unknown"
	CodeInternal       = "internal"
)

// problem makes an error that an HTTP service answers as it is. Detail is a format.
func problem(status int, code, cure, detail string, args ...any) *api.Problem {
	return &api.Problem{Status: status, Title: http.StatusText(status), Detail: fmt.Sprintf(detail, args...), Code: code,
		Cure: cure}
}

const cureNewToken = "make a new token with `skerry token create` and run the join again with it"

func tokenInvalid() *api.Problem {
	return problem(http.StatusUnauthorized, CodeTokenInvalid, "copy the whole join string again; or "+cureNewToken,
		"join token is not known here, or its secret is wrong")
}

func nodeExists(id string) *api.Problem {
	return problem(http.StatusConflict, CodeNodeExists,
		fmt.Sprintf("when this is the same device, wiped: join with a token made by `skerry token create --approval`, then "+
			"`skerry approve %s`; when the old one is gone for good: `skerry node remove %s`; when it is another device: "+
			"give it another node id", id, id),
		"node %q exists with another key", id)
}

// notFound is about something of a kind that `skerry get` lists under a name of its own.
func notFound(code, what, list, id string) *api.Problem {
	return problem(http.StatusNotFound, code, "`skerry get "+list+"` lists them", "no %s %q", what, id)
}
