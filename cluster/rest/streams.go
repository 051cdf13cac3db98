package rest

import (
	"cmp"
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
	s.stream(route{http.MethodGet, "/v1/watch", "watch", "Follow changes of nodes, commands and events", "site", api.RoleViewer, "", ""}, s.watch,
		&huma.Operation{Description: "Server-sent events; the data of each is a Change. Query: kind (node, command, event; may repeat), node, " +
			"selector, id (of a command; may repeat), initial=true to begin with what is there.", Responses: described("text/event-stream")})
	s.stream(route{http.MethodGet, "/v1/nodes/{id}/logs", "node-logs", "Read a node's log", "nodes", api.RoleOperator, "log.read", "id"}, s.logs,
		&huma.Operation{Description: "Query: source (agent, or a path that the node permits), lines, follow. A fault after the beginning is in " +
			"the trailer Skerry-Error.", Responses: described("text/plain")})
	s.stream(route{http.MethodGet, "/v1/nodes/{id}/files", "get-file", "Copy a file from a node", "nodes", api.RoleOperator, "file.get", "id"},
		s.download, &huma.Operation{Description: "Query: path. The trailer Skerry-Sha256 is the digest as the node computed it.",
			Responses: described("application/octet-stream")})
	s.stream(route{http.MethodPut, "/v1/nodes/{id}/files", "put-file", "Copy a file to a node", "nodes", api.RoleOperator, "file.put", "id"},
		s.upload, &huma.Operation{Description: "Query: path, size, sha256, mode (octal; when left out, that of the file that is there), newMode (octal; of a new file).",
			Responses: map[string]*huma.Response{"204": {Description: "the node has the file, and its digest is right"}}})
}

func described(mediaType string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: "a stream", Content: map[string]*huma.MediaType{mediaType: {}}}}
}

// stream registers a plain handler and its description. What it does is audited under action by the handler, and here
// when it is refused; empty: it is not a write.
func (s *Server) stream(rt route, h func(http.ResponseWriter, *http.Request, Principal) error, doc *huma.Operation) {
	doc.Method, doc.Path, doc.OperationID, doc.Summary, doc.Tags = rt.method, rt.path, rt.id, rt.summary, []string{rt.tag}
	doc.Description += " Takes role " + string(rt.role) + "."
	doc.Extensions = map[string]any{docRole: string(rt.role)}
	if rt.audit != "" {
		doc.Extensions[docAudit] = rt.audit
	}
	s.api.OpenAPI().AddOperation(doc)
	s.mux.HandleFunc(rt.method+" "+rt.path, func(w http.ResponseWriter, r *http.Request) {
		who, err := s.allow(r, rt.role)
		if err != nil {
			if rt.audit != "" {
				s.site.Gate.Audit(who, rt.audit, concerned(r), err.Error())
			}
			writeProblem(w, err)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		if s.site.Closing != nil {
			defer context.AfterFunc(s.site.Closing, cancel)()
		}
		err = h(w, r.WithContext(ctx), who)
		if err == nil || r.Context().Err() != nil { // nobody is there to be told
			return
		}
		if ctx.Err() != nil {
			err = &api.Problem{Status: http.StatusServiceUnavailable, Title: "stopping", Detail: "the cluster agent is being stopped: " + err.Error(),
				Code: codeStopping, Cure: "ask again in a moment"}
		}
		writeProblem(w, err)
	})
}

// concerned is what a request for a file or log is about.
func concerned(r *http.Request) string {
	q := r.URL.Query()
	return r.PathValue("id") + ":" + cmp.Or(q.Get("path"), q.Get("source"), q.Get("name"))
}

// keepWatch is how often a quiet watch says that it lives, so that proxies keep it and both sides notice a cut.
const keepWatch = 20 * time.Second

func (s *Server) watch(w http.ResponseWriter, r *http.Request, who Principal) error {
	q := r.URL.Query()
	query := WatchQuery{Kinds: q["kind"], Node: q.Get("node"), Selector: q.Get("selector"), Initial: q.Get("initial") == "true", IDs: q["id"]}
	for _, k := range query.Kinds {
		if k != "node" && k != "command" && k != "event" {
			return invalid("kind", k, "node, command or event")
		}
	}
	if _, err := s.site.Fleet.Nodes(query.Selector); err != nil { // while it can still be said
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	out := s.begin(w, "text/event-stream")
	w.Header().Del("Trailer")
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	changes := make(chan api.Change, 64)
	ended := make(chan error, 1)
	go func() { // joined below: it ends with ctx
		ended <- s.site.Fleet.Watch(ctx, query, func(c api.Change) error {
			if c.Command != nil {
				rec := shown(*c.Command, who.Role)
				c.Command = &rec
			}
			select {
			case changes <- c:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	if err := writeEvents(out, changes, ended); err != nil {
		cancel()
		<-ended
	}
	return nil // the stream has begun: nothing can be said any more
}

// writeEvents writes changes as they come, until writing fails or the watch ends. An error is one of writing, and ended
// was not read.
func writeEvents(w io.Writer, changes <-chan api.Change, ended <-chan error) error {
	if _, err := io.WriteString(w, ": watching\n\n"); err != nil {
		return err
	}
	tick := time.NewTicker(keepWatch)
	defer tick.Stop()
	for {
		var err error
		select {
		case c := <-changes:
			err = writeEvent(w, "", c)
		case <-tick.C:
			_, err = io.WriteString(w, ": still watching\n\n")
		case why := <-ended:
			goodbye(w, changes, why)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// goodbye writes what the watch had handed over before it ended, and why it did. The reader may have gone by then, and
// nothing more is to be read from the watch.
func goodbye(w io.Writer, changes <-chan api.Change, why error) {
	for len(changes) > 0 {
		if writeEvent(w, "", <-changes) != nil {
			return
		}
	}
	if why == nil {
		why = errors.New("the cluster agent ends the watch")
	}
	_ = writeEvent(w, "event: error\n", api.Problem{Status: http.StatusServiceUnavailable, Title: "watch ended", Detail: why.Error(),
		Code: "watch_ended", Cure: "watch again"})
}

func writeEvent(w io.Writer, kind string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%sdata: %s\n\n", kind, raw)
	return err
}

// flusher sends each piece on as it comes. A reader who takes nothing for too long is given up: it holds a stream of the
// node.
type flusher struct {
	w       io.Writer
	rc      *http.ResponseController
	stalled time.Duration
	n       int64
}

func (f *flusher) Write(p []byte) (int, error) {
	_ = f.rc.SetWriteDeadline(time.Now().Add(f.stalled)) // not every writer has one; a real connection does
	n, err := f.w.Write(p)
	f.n += int64(n)
	if err == nil {
		err = f.rc.Flush()
	}
	_ = f.rc.SetWriteDeadline(time.Time{}) // a quiet stream is no slow reader
	return n, err
}

// patient reads a request as slowly as it comes, but not from somebody who stands still.
type patient struct {
	r       io.Reader
	rc      *http.ResponseController
	stalled time.Duration
}

func (p *patient) Read(b []byte) (int, error) {
	_ = p.rc.SetReadDeadline(time.Now().Add(p.stalled))
	n, err := p.r.Read(b)
	if err != nil { // the server itself reads on, to notice that the caller leaves
		_ = p.rc.SetReadDeadline(time.Time{})
	}
	return n, err
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
		return s.did(who, "log.read", concerned(r), invalid("lines", q.Get("lines"), "0 to 100000"))
	}
	f := s.begin(w, "text/plain; charset=utf-8")
	query := LogQuery{Node: r.PathValue("id"), Source: q.Get("source"), Lines: lines, Follow: q.Get("follow") == "true"}
	return f.begun(w, s.did(who, "log.read", concerned(r), s.site.Files.Logs(r.Context(), query, who, f)))
}

func (s *Server) begin(w http.ResponseWriter, mediaType string) *flusher {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Trailer", strings.Join([]string{trailerError, trailerSHA256}, ", "))
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Time{}) // the server's own is for answers that end
	return &flusher{w: w, rc: rc, stalled: s.stalled}
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
	u, err := uploadOf(r)
	if err == nil {
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Time{})  // a large file over a slow link takes its time
		_ = rc.SetWriteDeadline(time.Time{}) // and is answered after it
		body := &patient{r.Body, rc, s.stalled}
		err = s.site.Files.Put(r.Context(), u, who, io.LimitReader(body, u.Size))
	}
	if err = s.did(who, "file.put", concerned(r), err); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func uploadOf(r *http.Request) (Upload, error) {
	q := r.URL.Query()
	size, err := strconv.ParseInt(q.Get("size"), 10, 64)
	if err != nil || size < 0 {
		return Upload{}, invalid("size", q.Get("size"), "the number of bytes")
	}
	if r.ContentLength >= 0 && r.ContentLength != size {
		return Upload{}, invalid("size", q.Get("size"), fmt.Sprintf("as many bytes as the body has, %d", r.ContentLength))
	}
	return Upload{Node: r.PathValue("id"), Path: q.Get("path"), Mode: q.Get("mode"), NewMode: q.Get("newMode"), SHA256: q.Get("sha256"), Size: size}, nil
}
