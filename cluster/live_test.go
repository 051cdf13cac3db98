package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/feed"
)

// A slow reader of much output has it all, however long after the command's end; a silent stream is given up.
func TestWhatACommandPrintedIsGivenUpForSilenceNotForBeingMuch(t *testing.T) {
	for name, c := range map[string]struct {
		pause time.Duration // before each piece
		want  int
	}{
		"much":   {lastWords - time.Millisecond, 10},
		"silent": {lastWords + time.Millisecond, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				changes := feed.New[api.CommandRecord](4)
				watch := changes.Watch(t.Context())
				defer watch.Close()
				pieces, end, ended := make(chan api.RunEvent), make(chan struct{}), make(chan struct{})
				defer func() { close(end); <-ended }()
				go func() {
					defer close(ended)
					defer close(pieces)
					for range 10 {
						select {
						case <-time.After(c.pause):
						case <-end:
							return
						}
						select {
						case pieces <- api.RunEvent{Channel: api.ChannelStdout, Data: []byte("x")}:
						case <-end:
							return
						}
					}
				}()
				changes.Publish(api.CommandRecord{ID: "c", Final: true}, false)
				got, last := 0, false
				err := relay(t.Context(), watch, "c", pieces, func(e api.RunEvent) error {
					got, last = got+len(e.Data), e.Command != nil
					return nil
				})
				if err != nil || got != c.want || !last {
					t.Errorf("%d pieces, the record last: %t, %v; wanted %d", got, last, err, c.want)
				}
			})
		})
	}
}
