package rest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// The codes of the problems that this package answers. They are stable.
const (
	codeRequest  = "bad_request"
	codeTooLarge = "body_too_large"
	codeMedia    = "content_type"
	codePath     = "not_found"
	codeMethod   = "method_not_allowed"
	codeStopping = "stopping"
)

// This has the framework tell names of members apart by case too; encoding/json takes "Nodes" for "nodes". It is a
// setting of that package as a whole, and so is made before anything runs.
var _ = func() struct{} {
	huma.ValidateStrictCasing = true
	return struct{}{}
}()

// strict is JSON as the wire has it: bounded depth, no key twice, one object.
func strict() huma.Format {
	return huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: func(data []byte, v any) error {
		if err := mqtt.CheckJSON(data); err != nil {
			return err
		}
		return json.Unmarshal(data, v)
	}}
}

// maxEcho bounds how much of a faulty value is sent back, in bytes.
const maxEcho = 128

// explain gives a fault that the framework has found the form that all others have. It is a huma.Transformer.
func explain(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := &api.Problem{Status: m.Status, Title: m.Title, Detail: m.Detail, Code: codeRequest, Cure: "/openapi.yaml describes every request"}
	switch m.Status {
	case http.StatusRequestEntityTooLarge:
		p.Code, p.Cure = codeTooLarge, ""
	case http.StatusUnsupportedMediaType:
		p.Code, p.Cure = codeMedia, "send Content-Type: application/json"
	}
	for _, e := range m.Errors {
		p.Errors = append(p.Errors, api.ProblemError{Message: e.Message, Location: e.Location, Value: echo(e.Value)})
	}
	p = whole(p)
	if visit, ok := ctx.Context().Value(visitKey{}).(*visit); ok {
		visit.refusal = p.Error()
	}
	return p, nil
}

// echo is what of a value is sent back to who sent it: not whole objects, which may hold secrets, nor all of a long text.
func echo(v any) any {
	switch v := v.(type) {
	case string:
		return brief(v)
	case float64, bool, int, int64, json.Number:
		return v
	}
	return nil
}

// problemOf makes every error one that huma writes as it is.
func problemOf(err error) error {
	if err == nil {
		return nil
	}
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return whole(p)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &api.Problem{Status: http.StatusGatewayTimeout, Title: "took too long", Detail: err.Error(), Code: "timeout",
			Cure: "ask again; skerry doctor tells whether something is wrong"}
	}
	return &api.Problem{Status: http.StatusInternalServerError, Title: "internal error", Detail: err.Error(), Code: "internal",
		Cure: "see the log of skerry-cluster"}
}

// whole gives a problem the code and cure that every one has, and keeps what it quotes of a request short. p is not changed.
func whole(p *api.Problem) *api.Problem {
	out := *p
	if out.Title == "" {
		out.Title = cmp.Or(http.StatusText(p.Status), "error")
	}
	if out.Code == "" {
		out.Code = strings.ReplaceAll(strings.ToLower(cmp.Or(http.StatusText(p.Status), "error")), " ", "_")
	}
	if out.Cure == "" {
		out.Cure = cureOf(p.Status)
	}
	out.Errors = slices.Clone(p.Errors)
	for i := range out.Errors {
		e := &out.Errors[i]
		e.Message, e.Location, e.Value = brief(e.Message), brief(e.Location), echo(e.Value)
	}
	return &out
}

// cureOf is what to do about an error that says nothing better.
func cureOf(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "send an access token, or connect with an operator's certificate"
	case status == http.StatusForbidden:
		return "ask an administrator"
	case status == http.StatusNotFound:
		return "list what there is, and look at the spelling"
	case status == http.StatusConflict:
		return "look at what is there now, then ask again"
	case status == http.StatusRequestEntityTooLarge:
		return "send less at once"
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		return "wait a little and ask again"
	case status >= http.StatusInternalServerError:
		return "see the log of skerry-cluster"
	}
	return "/openapi.yaml describes every request"
}

// brief cuts a text that may quote a request.
func brief(s string) string {
	if len(s) > maxEcho {
		s = s[:maxEcho] + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// invalid is a parameter that is not as it should be; it names the value and what was wanted.
func invalid(name, value, wanted string) error {
	return &api.Problem{Status: http.StatusBadRequest, Title: "bad request", Detail: "a parameter is not as it should be", Code: codeRequest,
		Errors: []api.ProblemError{{Message: "wanted " + wanted, Location: "query." + name, Value: echo(value)}}}
}

// writeProblem answers with an error.
func writeProblem(w http.ResponseWriter, err error) {
	p, ok := errors.AsType[*api.Problem](problemOf(err))
	if !ok {
		p = whole(&api.Problem{Status: http.StatusInternalServerError})
	}
	w.Header().Del("Trailer")
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="skerry"`) // RFC 9110, 11.6.1
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the caller has gone; there is nobody to tell
}

// unrouted gives the answers of the mux itself, to a path or method that is not there, the form that all others have.
type unrouted struct {
	http.ResponseWriter
	r *http.Request
}

// WriteHeader answers in the mux's stead.
func (u *unrouted) WriteHeader(status int) {
	if status < http.StatusBadRequest { // a redirection to the clean form of a path
		u.ResponseWriter.WriteHeader(status)
		return
	}
	p := &api.Problem{Status: status, Title: http.StatusText(status), Code: codePath, Detail: fmt.Sprintf("there is no %.80q here", u.r.URL.Path),
		Cure: "/openapi.yaml lists what there is"}
	if status == http.StatusMethodNotAllowed {
		p.Code, p.Detail = codeMethod, u.r.Method+" of "+strconv.Quote(u.r.URL.Path)+"; wanted "+u.Header().Get("Allow")
	}
	writeProblem(u.ResponseWriter, p)
}

// Write drops the mux's own text.
func (u *unrouted) Write(text []byte) (int, error) { return len(text), nil }
