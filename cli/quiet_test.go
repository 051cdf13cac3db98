package cli

import (
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// deaf passes bytes on until it is told to stop, and leaves its connections open then, as a cut cable does.
type deaf struct {
	net.Listener
	now atomic.Bool
}

type deafConn struct {
	net.Conn
	l *deaf
}

func (d *deaf) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	return &deafConn{c, d}, err
}

func (c *deafConn) Write(p []byte) (int, error) {
	if c.l.now.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// TestAQuietAnswerIsWaitedForAndADeadConnectionIsNot has a server that is silent for three times as long as a connection may be without a
// sign of life, and one whose bytes come no more.
func TestAQuietAnswerIsWaitedForAndADeadConnectionIsNot(t *testing.T) {
	after, wait := pingAfter, pingWait
	pingAfter, pingWait = 100*time.Millisecond, 2*time.Second
	t.Cleanup(func() { pingAfter, pingWait = after, wait })
	for name, dies := range map[string]bool{"quiet": false, "dead": true} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			var line *deaf
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if dies {
					line.now.Store(true)
					<-release
					return
				}
				time.Sleep(3 * (pingAfter + pingWait))
				_, _ = io.WriteString(w, "here it is")
			}))
			line = &deaf{Listener: srv.Listener}
			srv.Listener, srv.EnableHTTP2 = line, true
			srv.StartTLS()
			defer srv.Close()
			defer srv.CloseClientConnections()
			defer close(release)
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
			c, err := NewClient(Context{Name: "test", Server: srv.URL, CA: string(ca), Token: "t"})
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			resp, err := c.Do(t.Context(), http.MethodGet, "/v1/nodes/n1/logs", nil)
			if dies {
				if took := time.Since(begun); err == nil || took > patience {
					t.Errorf("after %s: %v; wanted an error soon", took, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), "here it is") {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
}
