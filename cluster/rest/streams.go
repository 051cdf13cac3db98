package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skerry-edge/skerry/api"
)

// Trailers tell what became of an answer after it had begun.
const (
	trailerError  = "Skerry-Error"
	trailerSHA256 = "Skerry-Sha256"
)

// streams adds the routes whose answers go on: they write as things happen, so they are plain handlers, and described
// in the OpenAPI document by hand.
func (s *Server) streams() {
	s.stream(http.MethodGet, "/v1/watch", api.RoleViewer, s.watch, &huma.Operation{OperationID: "watch", Tags: []string{"site"},
		Summary: "Follow changes of nodes, commands and events",
		Description: "Server-sent events; the data of each is a Change. Query: kind (node, command, event; may repeat), node, selector, id (of a command; may repeat), " +
			"initial=true to begin with what is there. Takes role viewer.", Responses: described("text/event-stream")})
	s.stream(http.MethodGet, "/v1/nodes/{id}/logs", api.RoleOperator, s.logs, &huma.Operation{OperationID: "node-logs",
		Tags: []string{"nodes"}, Summary: "Read a node's log", Description: "Query: source (agent, or a path that the node permits), lines, " +
			"follow. A fault after the beginning is in the trailer Skerry-Error. Takes role operator.", Responses: described("text/plain")})
	s.stream(http.MethodGet, "/v1/nodes/{id}/files", api.RoleOperator, s.download, &huma.Operation{OperationID: "get-file",
		Tags: []string{"nodes"}, Summary: "Copy a file from a node", Description: "Query: path. The trailer Skerry-Sha256 is the digest as " +
			"the node computed it. Takes role operator.", Responses: described("application/octet-stream")})
	s.stream(http.MethodPut, "/v1/nodes/{id}/files", api.RoleOperator, s.upload, &huma.Operation{OperationID: "put-file",
		Tags: []string{"nodes"}, Summary: "Copy a file to a node", Description: "Query: path, mode (octal), size, sha256. Takes role operator.",
		Responses: map[string]*huma.Response{"204": {Description: "the node has the file, and its digest is right"}}})
}

func described(mediaType string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: "a stream", Content: map[string]*huma.MediaType{mediaType: {}}}}
}

// stream registers a plain handler and its description.
func (s *Server) stream(method, path string, role api.Role, h func(http.ResponseWriter, *http.Request, Principal) error, doc *huma.Operation) {
	doc.Method, doc.Path = method, path
	s.api.OpenAPI().AddOperation(doc)
	s.mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
		who, err := s.allow(r, role)
		if err != nil {
			if doc.OperationID != "watch" {
				s.site.Gate.Audit(who, doc.OperationID, r.PathValue("id")+":"+r.URL.Query().Get("path"), err.Error())
			}
			writeProblem(w, err)
			return
		}
		if s.site.Closing != nil {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			defer context.AfterFunc(s.site.Closing, cancel)()
			r = r.WithContext(ctx)
		}
		if err := h(w, r, who); err != nil && r.Context().Err() == nil {
			writeProblem(w, err)
		}
	})
}

// keepWatch is how often a quiet watch says that it lives, so that proxies keep it and both sides notice a cut.
const keepWatch = 20 * time.Second

func (s *Server) watch(w http.ResponseWriter, r *http.Request, _ Principal) error {
	q := r.URL.Query()
	query := WatchQuery{Kinds: q["kind"], Node: q.Get("node"), Selector: q.Get("selector"), Initial: q.Get("initial") == "true", IDs: q["id"]}
	for _, k := range query.Kinds {
		if k != "node" && k != "command" && k != "event" {
			return &api.Problem{Status: http.StatusBadRequest, Title: "bad request", Code: "kind",
				Detail: fmt.Sprintf("kind %q: wanted node, command or event", k)}
		}
	}
	if _, err := s.site.Fleet.Nodes(query.Selector); err != nil { // while it can still be said
		return err
	}
	rc := http.NewResponseController(w)
	if err := rc.SetWriteDeadline(time.Time{}); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	changes := make(chan api.Change, 64)
	ended := make(chan error, 1)
	go func() { // joined below: it ends with ctx
		ended <- s.site.Fleet.Watch(ctx, query, func(c api.Change) error {
			select {
			case changes <- c:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	err := writeEvents(rc, w, changes, ended)
	cancel()
	if err != nil {
		<-ended
	}
	return nil // the stream has begun: nothing can be said any more
}

// writeEvents writes changes as they come, until writing fails or the watch ends.
func writeEvents(rc *http.ResponseController, w io.Writer, changes <-chan api.Change, ended <-chan error) error {
	if _, err := io.WriteString(w, ": watching\n\n"); err != nil {
		return err
	}
	tick := time.NewTicker(keepWatch)
	defer tick.Stop()
	for {
		if err := rc.Flush(); err != nil {
			return err
		}
		select {
		case c := <-changes:
			raw, err := json.Marshal(c)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(w, "data: %s\n\n", raw); err != nil {
				return err
			}
		case <-tick.C:
			if _, err := io.WriteString(w, ": still watching\n\n"); err != nil {
				return err
			}
		case err := <-ended:
			if err == nil {
				err = errors.New("the cluster agent ends the watch")
			}
			raw, jerr := json.Marshal(api.Problem{Status: http.StatusServiceUnavailable, Title: "watch ended", Detail: err.Error(), Code: "watch_ended",
				Cure: "watch again"})
			if jerr == nil {
				_, _ = fmt.Fprintf(w, "event: error\ndata: %s\n\n", raw) // the reader may have gone
				_ = rc.Flush()
			}
			return nil
		}
	}
}

// flusher sends each piece on as it comes.
type flusher struct {
	w  io.Writer
	rc *http.ResponseController
	n  int64
}

func (f *flusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	f.n += int64(n)
	if err != nil {
		return n, err
	}
	return n, f.rc.Flush()
}

// begun makes an error of a stream that has begun a trailer, and leaves any other to be answered properly.
func (f *flusher) begun(w http.ResponseWriter, err error) error {
	if err != nil && f.n > 0 {
		w.Header().Set(trailerError, err.Error())
		return nil
	}
	return err
}

func (s *Server) logs(w http.ResponseWriter, r *http.Request, who Principal) error {
	q := r.URL.Query()
	lines, err := strconv.Atoi(q.Get("lines"))
	if q.Get("lines") == "" {
		lines, err = 100, nil
	}
	if err != nil || lines < 0 || lines > 100000 {
		return &api.Problem{Status: http.StatusBadRequest, Title: "bad request", Code: "lines",
			Detail: fmt.Sprintf("lines %q: wanted 0 to 100000", q.Get("lines"))}
	}
	f := s.begin(w, "text/plain; charset=utf-8")
	query := LogQuery{Node: r.PathValue("id"), Source: q.Get("source"), Lines: lines, Follow: q.Get("follow") == "true"}
	return f.begun(w, s.site.Files.Logs(r.Context(), query, who, f))
}

func (s *Server) begin(w http.ResponseWriter, mediaType string) *flusher {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Trailer", strings.Join([]string{trailerError, trailerSHA256}, ", "))
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Time{}) // not every writer has one; what has none needs none lifted
	return &flusher{w: w, rc: rc}
}

func (s *Server) download(w http.ResponseWriter, r *http.Request, who Principal) error {
	node, path := r.PathValue("id"), r.URL.Query().Get("path")
	f := s.begin(w, "application/octet-stream")
	sum, err := s.site.Files.Get(r.Context(), node, path, who, f)
	err = s.did(who, "file.get", node+":"+path, err)
	w.Header().Set(trailerSHA256, sum)
	return f.begun(w, err)
}

func (s *Server) upload(w http.ResponseWriter, r *http.Request, who Principal) error {
	q := r.URL.Query()
	size, err := strconv.ParseInt(q.Get("size"), 10, 64)
	if err != nil || size < 0 {
		return &api.Problem{Status: http.StatusBadRequest, Title: "bad request", Code: "size",
			Detail: fmt.Sprintf("size %q: wanted the number of bytes", q.Get("size"))}
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})  // a large file over a slow link takes its time
	_ = rc.SetWriteDeadline(time.Time{}) // and is answered after it
	u := Upload{Node: r.PathValue("id"), Path: q.Get("path"), Mode: q.Get("mode"), SHA256: q.Get("sha256"), Size: size}
	err = s.site.Files.Put(r.Context(), u, who, io.LimitReader(r.Body, size))
	if err = s.did(who, "file.put", u.Node+":"+u.Path, err); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// writeProblem answers with an error.
func writeProblem(w http.ResponseWriter, err error) {
	p, ok := errors.AsType[*api.Problem](problemOf(err))
	if !ok {
		p = &api.Problem{Status: http.StatusInternalServerError, Title: "internal error"}
	}
	w.Header().Del("Trailer")
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the caller has gone; there is nobody to tell
}
