package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-edge/skerry/agent"
)

// Server is the kubelet API of all virtual nodes. Its Handler is served over TLS with client certificates asked for, not demanded: a
// caller may bring a token.
type Server struct {
	Access *Access
	Pods   Pods
	Inside Inside
	Gauges Gauges
	Log    *slog.Logger
}

// What a kubelet gives streams.
const (
	streamIdle  = 4 * time.Hour
	streamBegin = 30 * time.Second
)

// Handler is the API.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.ofPod(s.logs))
	for _, method := range []string{"GET", "POST"} {
		mux.HandleFunc(method+" /exec/{namespace}/{pod}/{container}", s.ofPod(s.exec))
		mux.HandleFunc(method+" /exec/{namespace}/{pod}/{uid}/{container}", s.ofPod(s.exec))
		mux.HandleFunc(method+" /attach/{namespace}/{pod}/{container}", s.ofPod(s.attach))
		mux.HandleFunc(method+" /attach/{namespace}/{pod}/{uid}/{container}", s.ofPod(s.attach))
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}", s.ofPod(s.forward))
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}/{uid}", s.ofPod(s.forward))
	}
	mux.HandleFunc("GET /pods", s.ofNode("proxy", s.pods))
	mux.HandleFunc("GET /runningpods/", s.ofNode("proxy", s.pods))
	mux.HandleFunc("GET /metrics/resource", s.ofNode("metrics", s.metrics))
	mux.HandleFunc("GET /stats/summary", s.ofNode("stats", s.summary))
	return mux
}

// call is a request that may be done.
type call struct {
	who  *authenticationv1.UserInfo
	node string
	pod  *corev1.Pod
}

// fault is an error with its HTTP status.
type fault struct {
	status int
	err    error
}

func (f *fault) Error() string { return f.err.Error() }

func refuse(status int, format string, args ...any) error {
	return &fault{status, fmt.Errorf(format, args...)}
}

type handler func(http.ResponseWriter, *http.Request, *call) error

// ofPod finds the pod of a request before the caller's rights on its node are asked for.
func (s *Server) ofPod(do handler) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		s.answer(w, req, func() error {
			who, err := s.identify(req)
			if err != nil {
				return err
			}
			pod, err := s.Pods.Pod(req.Context(), req.PathValue("namespace"), req.PathValue("pod"))
			if err != nil {
				return refuse(http.StatusInternalServerError, "look up pod: %w", err)
			}
			if pod == nil || req.PathValue("uid") != "" && req.PathValue("uid") != string(pod.UID) {
				if s.permit(req.Context(), who, req.Method, "", "proxy") != nil { // who may see none need not know which there are
					return refuse(http.StatusForbidden, "user %s may not %s nodes/proxy", who.Username, verbOf(req.Method))
				}
				return refuse(http.StatusNotFound, "pod %q does not exist", req.PathValue("namespace")+"/"+req.PathValue("pod"))
			}
			if err := s.permit(req.Context(), who, req.Method, pod.Spec.NodeName, "proxy"); err != nil {
				return err
			}
			return do(w, req, &call{who, pod.Spec.NodeName, pod})
		})
	}
}

// ofNode finds the node by the port that was dialled.
func (s *Server) ofNode(subresource string, do handler) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		s.answer(w, req, func() error {
			who, err := s.identify(req)
			if err != nil {
				return err
			}
			node := s.Pods.Node(dialled(req))
			if node == "" {
				return refuse(http.StatusNotFound, "port %d is no virtual node's", dialled(req))
			}
			if err := s.permit(req.Context(), who, req.Method, node, subresource); err != nil {
				return err
			}
			return do(w, req, &call{who: who, node: node})
		})
	}
}

// dialled is the port that the caller reached: of the connection, or, through a tunnel, of what was asked for.
func dialled(req *http.Request) int {
	if at, ok := req.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if _, port, err := net.SplitHostPort(at.String()); err == nil {
			n, _ := strconv.Atoi(port)
			return n
		}
	}
	return 0
}

func (s *Server) identify(req *http.Request) (*authenticationv1.UserInfo, error) {
	who, err := s.Access.identify(req)
	switch {
	case errors.Is(err, errWho):
		return nil, &fault{http.StatusUnauthorized, err}
	case err != nil:
		return nil, &fault{http.StatusInternalServerError, err}
	}
	return who, nil
}

func (s *Server) permit(ctx context.Context, who *authenticationv1.UserInfo, method, node, subresource string) error {
	if err := s.Access.permit(ctx, who, verbOf(method), node, subresource); err != nil {
		return &fault{http.StatusForbidden, err}
	}
	return nil
}

// answer runs do and tells its error, if nothing has been answered yet.
func (s *Server) answer(w http.ResponseWriter, req *http.Request, do func() error) {
	err := do()
	if err == nil || req.Context().Err() != nil {
		return
	}
	status := http.StatusBadGateway
	if f, ok := errors.AsType[*fault](err); ok {
		status = f.status
	}
	s.Log.Debug("kubelet request refused", agent.KeyPath, req.URL.Path, agent.KeyErr, err)
	http.Error(w, err.Error(), status)
}

// container is the one that a request names. A pod has to have it.
func (c *call) container(name string) (Container, error) {
	known := func(list []corev1.Container) bool {
		return slices.ContainsFunc(list, func(k corev1.Container) bool { return k.Name == name })
	}
	if !known(c.pod.Spec.Containers) && !known(c.pod.Spec.InitContainers) {
		return Container{}, refuse(http.StatusNotFound, "container %q of pod %q does not exist", name, c.pod.Namespace+"/"+c.pod.Name)
	}
	return Container{Node: c.node, Pod: c.pod.Namespace + "/" + c.pod.Name, Workload: string(c.pod.UID), Name: name}, nil
}
