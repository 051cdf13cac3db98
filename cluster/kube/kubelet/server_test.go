package kubelet

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"k8s.io/apimachinery/pkg/runtime"
)

// aDevice answers for edge-1, whose pod default/web has a container main.
type aDevice struct {
	asked chan string
	fault error
}

func (d *aDevice) Pod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	if namespace != "default" || name != "web" {
		return nil, nil
	}
	p := aPod()
	return &p, nil
}

func aPod() corev1.Pod {
	return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u1"},
		Spec: corev1.PodSpec{NodeName: "edge-1", Containers: []corev1.Container{{Name: "main"}}}}
}

func (d *aDevice) On(context.Context, string) ([]corev1.Pod, error) { return []corev1.Pod{aPod()}, nil }
func (d *aDevice) Node(port int) string {
	if port == 0 {
		return ""
	}
	return "edge-1"
}

func (d *aDevice) Logs(_ context.Context, by string, c Container, l Logs, w io.Writer) error {
	d.asked <- fmt.Sprintf("%s %+v tail=%d follow=%v", by, c, l.Tail, l.Follow)
	if d.fault != nil {
		return d.fault
	}
	_, err := io.WriteString(w, "line 1\nline 2\n")
	return err
}

func (d *aDevice) Exec(_ context.Context, _ string, _ Container, argv []string, s Streams) (int, error) {
	if len(argv) > 0 && argv[0] == "false" {
		return 3, nil
	}
	if s.Resize != nil {
		size := <-s.Resize
		fmt.Fprintf(s.Stdout, "%dx%d\n", size.Width, size.Height)
	}
	fmt.Fprintf(s.Stdout, "%q tty=%v\n", argv, s.TTY)
	if s.Stderr != nil {
		fmt.Fprint(s.Stderr, "to stderr")
	}
	if s.Stdin != nil {
		_, err := io.Copy(s.Stdout, s.Stdin)
		return 0, err
	}
	return 0, nil
}

func (d *aDevice) Forward(_ context.Context, _ string, _ Container, port int32, conn io.ReadWriteCloser) error {
	defer conn.Close()
	buf := make([]byte, 4)
	if _, err := io.ReadFull(conn, buf); err != nil {
		return err
	}
	_, err := fmt.Fprintf(conn, "%d:%s", port, buf)
	return err
}

func (d *aDevice) Usage(context.Context, string) (*Usage, error) {
	return &Usage{At: time.UnixMilli(1764000000000), CPUSeconds: 12.5, MemoryBytes: 1 << 20, Containers: []ContainerUsage{
		{Workload: "u1", Container: "main", CPUSeconds: 1.5, MemoryBytes: 4096, Started: time.UnixMilli(1763999000000)},
		{Workload: "stranger", Container: "x", CPUSeconds: 9, MemoryBytes: 9}}}, nil
}

// rig is the API behind TLS, and a caller whose token is good.
func rig(t *testing.T, roots func(context.Context) (*x509.CertPool, error)) (*aDevice, *httptest.Server, *rest.Config, *fake.Clientset) {
	t.Helper()
	d := &aDevice{asked: make(chan string, 9)}
	if roots == nil {
		roots = func(context.Context) (*x509.CertPool, error) { return nil, nil }
	}
	api := fake.NewClientset()
	api.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		r := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
		r.Status.Authenticated = r.Spec.Token != "wrong"
		r.Status.User = authenticationv1.UserInfo{Username: r.Spec.Token}
		return true, r, nil
	})
	api.PrependReactor("create", "subjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		r := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
		at := r.Spec.ResourceAttributes
		r.Status.Allowed = r.Spec.User == "admin" || r.Spec.User == "scraper" && (at.Subresource == "metrics" || at.Subresource == "stats") && at.Verb == "get" && at.Name == "edge-1"
		return true, r, nil
	})
	s := &Server{Pods: d, Inside: d, Gauges: d, Log: slog.New(slog.DiscardHandler), Access: &Access{Tokens: api.AuthenticationV1().TokenReviews(),
		Reviews: api.AuthorizationV1().SubjectAccessReviews(), Roots: roots, Now: time.Now}}
	srv := httptest.NewUnstartedServer(s.Handler())
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return d, srv, &rest.Config{Host: srv.URL, BearerToken: "admin", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, api
}

func get(t *testing.T, srv *httptest.Server, path, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestNobodyGetsInWithoutAName(t *testing.T) {
	_, srv, _, api := rig(t, nil)
	for _, c := range []struct {
		path, token string
		want        int
	}{
		{"/containerLogs/default/web/main", "", 401}, {"/containerLogs/default/web/main", "wrong", 401}, {"/containerLogs/default/web/main", "nobody", 403},
		{"/containerLogs/default/none/main", "nobody", 403}, {"/containerLogs/default/none/main", "admin", 404}, {"/containerLogs/default/web/none", "admin", 404},
		{"/pods", "nobody", 403}, {"/metrics/resource", "scraper", 200}, {"/stats/summary", "scraper", 200}, {"/pods", "scraper", 403},
		{"/exec/default/web/main?command=id&output=1", "scraper", 403}, {"/healthz", "", 200}, {"/containerLogs/default/web/main?tailLines=x", "admin", 400},
		{"/exec/default/web/other-uid/main?command=id&output=1", "admin", 404},
	} {
		if got, body := get(t, srv, c.path, c.token); got != c.want {
			t.Errorf("%s by %q: %d %s; wanted %d", c.path, c.token, got, body, c.want)
		}
	}
	before := len(api.Actions())
	get(t, srv, "/metrics/resource", "scraper")
	if after := len(api.Actions()); after != before {
		t.Errorf("%d more questions to the API server for an answer that still counts", after-before)
	}
}

func TestAClientCertificateOfTheAPIServersCAIsAName(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "admin"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for _, c := range []struct {
		roots *x509.CertPool
		err   error
		want  int
	}{{roots, nil, 200}, {x509.NewCertPool(), nil, 401}, {nil, nil, 401}, {roots, errors.New("no answer"), 500}} {
		_, srv, _, _ := rig(t, func(context.Context) (*x509.CertPool, error) { return c.roots, c.err })
		client := srv.Client()
		client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
		if got, body := get(t, srv, "/pods", ""); got != c.want {
			t.Errorf("%d %s; wanted %d", got, body, c.want)
		}
	}
}

func TestRootsAreReadAnewAndKeptWhileTheyCannotBe(t *testing.T) {
	now, pool, failed := time.Now(), x509.NewCertPool(), error(nil)
	reads := 0
	a := &Access{Now: func() time.Time { return now }, Roots: func(context.Context) (*x509.CertPool, error) {
		reads++
		return pool, failed
	}}
	first := pool
	for _, step := range []struct {
		name  string
		pass  time.Duration
		next  *x509.CertPool
		fail  error
		want  *x509.CertPool
		reads int
	}{
		{"at first", 0, first, nil, first, 1},
		{"soon again", rootsFor - 1, x509.NewCertPool(), nil, first, 1},
		{"unreadable", 1, nil, errors.New("no answer"), first, 2},
	} {
		now, pool, failed = now.Add(step.pass), step.next, step.fail
		if got, err := a.trusted(t.Context()); got != step.want || err != nil || reads != step.reads {
			t.Errorf("%s: %p, %v, %d reads; wanted %p, %d", step.name, got, err, reads, step.want, step.reads)
		}
	}
	now, failed, pool = now.Add(rootsFor), nil, x509.NewCertPool()
	if got, err := a.trusted(t.Context()); got != pool || err != nil {
		t.Errorf("after a renewal: %p, %v; wanted %p", got, err, pool)
	}
}

func TestLogsComeAsTheyAreAskedFor(t *testing.T) {
	d, srv, _, _ := rig(t, nil)
	if code, body := get(t, srv, "/containerLogs/default/web/main?tailLines=5&follow=true", "admin"); code != 200 || body != "line 1\nline 2\n" {
		t.Errorf("%d %q", code, body)
	}
	if got := <-d.asked; got != "admin {Node:edge-1 Pod:default/web Workload:u1 Name:main} tail=5 follow=true" {
		t.Errorf("asked %s", got)
	}
	d.fault = errors.New("the device is not connected")
	if code, body := get(t, srv, "/containerLogs/default/web/main", "admin"); code != 502 || !strings.Contains(body, "not connected") {
		t.Errorf("%d %q", code, body)
	}
}

// TestTheAPIServersProtocolExecutes uses what the API server speaks to a kubelet, whatever kubectl spoke to it: SPDY.
func TestTheAPIServersProtocolExecutes(t *testing.T) {
	_, srv, cfg, _ := rig(t, nil)
	run := func(query string, o remotecommand.StreamOptions) error {
		u, err := url.Parse(srv.URL + "/exec/default/web/main?" + query)
		if err != nil {
			t.Fatal(err)
		}
		e, err := remotecommand.NewSPDYExecutor(cfg, "POST", u)
		if err != nil {
			t.Fatal(err)
		}
		return e.StreamWithContext(t.Context(), o)
	}
	var out, errs bytes.Buffer
	err := run("command=cat&command=-n&input=1&output=1&error=1", remotecommand.StreamOptions{Stdin: strings.NewReader("what was typed"), Stdout: &out, Stderr: &errs})
	if err != nil || out.String() != "[\"cat\" \"-n\"] tty=false\nwhat was typed" || errs.String() != "to stderr" {
		t.Errorf("%v, stdout %q, stderr %q", err, out.String(), errs.String())
	}
	err = run("command=false&output=1&error=1", remotecommand.StreamOptions{Stdout: &out, Stderr: &errs})
	if code, ok := errors.AsType[exec.CodeExitError](err); !ok || code.Code != 3 {
		t.Errorf("%v; wanted exit code 3", err)
	}
}

// oneSize is a terminal of one size.
type oneSize struct{ told bool }

func (s *oneSize) Next() *remotecommand.TerminalSize {
	if s.told {
		return nil
	}
	s.told = true
	return &remotecommand.TerminalSize{Width: 80, Height: 24}
}

func TestATerminalHasItsSize(t *testing.T) {
	_, srv, cfg, _ := rig(t, nil)
	u, err := url.Parse(srv.URL + "/attach/default/web/main?output=1&tty=1")
	if err != nil {
		t.Fatal(err)
	}
	e, err := remotecommand.NewSPDYExecutor(cfg, "POST", u)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out, Tty: true, TerminalSizeQueue: &oneSize{}}); err != nil {
		t.Fatal(err)
	}
	if out.String() != "80x24\n[] tty=true\n" {
		t.Errorf("%q", out.String())
	}
}

func TestKubectlsClientForwardsAPort(t *testing.T) {
	_, srv, cfg, _ := rig(t, nil)
	u, err := url.Parse(srv.URL + "/portForward/default/web")
	if err != nil {
		t.Fatal(err)
	}
	transport, upgrader, err := spdy.RoundTripperFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	fw, err := portforward.New(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", u), []string{"0:8080"}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- fw.ForwardPorts() }()
	defer func() { close(stop); <-done }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	ports, err := fw.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "8080:ping" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestMetricsAreThoseOfAKubeletAndOfPodsAlone(t *testing.T) {
	_, srv, _, _ := rig(t, nil)
	_, text := get(t, srv, "/metrics/resource", "admin")
	for _, want := range []string{"node_cpu_usage_seconds_total 12.5 1764000000000\n", "# TYPE container_cpu_usage_seconds_total counter\n",
		`container_cpu_usage_seconds_total{container="main",namespace="default",pod="web"} 1.5 1764000000000`,
		`pod_memory_working_set_bytes{namespace="default",pod="web"} 4096 1764000000000`, `container_start_time_seconds{container="main",namespace="default",pod="web"} 1763999000.000`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nlacks %s", text, want)
		}
	}
	if strings.Contains(text, "stranger") || strings.Contains(text, `"x"`) {
		t.Errorf("tells of what no pod has:\n%s", text)
	}
	_, body := get(t, srv, "/stats/summary", "admin")
	var s stats.Summary
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatal(err)
	}
	if s.Node.NodeName != "edge-1" || len(s.Pods) != 1 || *s.Pods[0].Memory.WorkingSetBytes != 4096 || *s.Pods[0].Containers[0].CPU.UsageCoreNanoSeconds != 1_500_000_000 {
		t.Errorf("%s", body)
	}
}
