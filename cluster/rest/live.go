package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skerry-edge/skerry/api"
)

// Live runs commands before the eyes of whoever asked.
type Live interface {
	// Live orders req, which names exactly one node, and hands its record and what it prints to take until it has ended. When
	// ctx ends, or take fails, the command goes on without an audience.
	Live(ctx context.Context, req api.CommandRequest, who Principal, take func(api.RunEvent) error) error
}

// live adds the route that commands one node and shows what it prints.
func (s *Server) live() {
	s.stream(route{http.MethodPost, "/v1/nodes/{id}/run", "run-command", "Command a node and follow what it prints", "commands", api.RoleOperator,
		"command.create", "id"}, s.perform, &huma.Operation{Description: "The body is a CommandRequest without nodes and selector. The answer is " +
		"server-sent events; the data of each is a RunEvent: the command's record as it changes, the final one last, and in between what it " +
		"prints, base64. Who hangs up does not cancel the command.", Responses: described("text/event-stream")})
}

// perform orders the command of r and writes what becomes of it. An error is one of before the answer began.
func (s *Server) perform(w http.ResponseWriter, r *http.Request, who Principal) error {
	node := r.PathValue("id")
	req, err := readOrder(w, r)
	if err == nil && s.site.Live == nil {
		err = &api.Problem{Status: http.StatusNotFound, Title: "no such node", Code: "node_unknown", Detail: "no node " + node}
	}
	audit := func(err error) error {
		return s.did(who, "command.create", strings.TrimSpace(req.Verb+" "+node+" "+req.ID), err)
	}
	if err != nil {
		return audit(err)
	}
	rc := http.NewResponseController(w)
	begun := false
	write := func(event string, v any) error {
		raw, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_ = rc.SetWriteDeadline(time.Now().Add(30 * time.Second)) // not every writer has one
		if _, err := fmt.Fprintf(w, "%sdata: %s\n\n", event, raw); err != nil {
			return err
		}
		return rc.Flush()
	}
	err = s.site.Live.Live(r.Context(), req, who, func(e api.RunEvent) error {
		if !begun {
			begun = true
			req.ID = e.Command.ID
			if err := audit(nil); err != nil {
				return err
			}
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Cache-Control", "no-store")
		}
		return write("", e)
	})
	if !begun {
		return audit(err)
	}
	if err != nil {
		_ = write("event: error\n", api.Problem{Status: http.StatusServiceUnavailable, Title: "no longer followed", Detail: err.Error(),
			Code: "watch_ended", Cure: "the command goes on: skerry describe command " + req.ID}) // the reader may have gone
	}
	return nil
}

// readOrder reads the body of a request to run something on the node that the path names.
func readOrder(w http.ResponseWriter, r *http.Request) (api.CommandRequest, error) {
	var req api.CommandRequest
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err == nil {
		err = decodeExactly(raw, &req)
	}
	if err == nil && (len(req.Nodes) > 0 || req.Selector != "") {
		err = errors.New("the path names the node; wanted no nodes and no selector")
	}
	if err != nil {
		err = &api.Problem{Status: http.StatusBadRequest, Title: "bad request", Detail: "body: " + err.Error(), Code: "bad_request"}
	}
	req.Nodes = []string{r.PathValue("id")}
	return req, err
}

// decodeExactly is strict JSON, with no members but those of req, by their exact names: encoding/json takes "Verb" for "verb".
func decodeExactly(raw []byte, req *api.CommandRequest) error {
	if err := strict().Unmarshal(raw, req); err != nil {
		return err
	}
	var sent, known map[string]json.RawMessage
	all, err := json.Marshal(api.CommandRequest{ID: "x", Nodes: []string{"x"}, Selector: "x", Verb: "x", Args: map[string]any{"x": 1}, Deadline: "x"})
	if err := errors.Join(err, json.Unmarshal(raw, &sent), json.Unmarshal(all, &known)); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		if _, ok := known[name]; !ok {
			return fmt.Errorf("%.40q is not a member; wanted %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
	}
	return nil
}

// self adds what the agent tells of itself for a bug report.
func (s *Server) self() {
	missing := &api.Problem{Status: http.StatusNotFound, Title: "not kept", Code: "not_kept", Detail: "this agent does not keep it"}
	add(s, route{http.MethodGet, "/v1/config", "get-config", "The configuration in force, without secrets, as YAML", "site", api.RoleAdmin, "", ""},
		func(context.Context, Principal, *none) (*one[api.Text], error) {
			if s.site.Config == nil {
				return nil, missing
			}
			text, err := s.site.Config()
			return oneOf(api.Text{Text: text}, err)
		})
	add(s, route{http.MethodGet, "/v1/log", "get-log", "The end of the agent's own log, as far as it is in memory", "site", api.RoleAdmin, "", ""},
		func(context.Context, Principal, *none) (*one[api.Text], error) {
			if s.site.Log == nil {
				return nil, missing
			}
			return oneOf(api.Text{Text: string(s.site.Log())}, nil)
		})
}
