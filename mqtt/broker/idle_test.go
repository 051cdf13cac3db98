package broker_test

import (
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry-edge/skerry/mqtt"
)

// TestABrokerThatKeepsMuchDoesNothingWithIt has a broker keep 8 MB, and nobody say anything. mochi's own loop copied the list of it once
// a second.
func TestABrokerThatKeepsMuchDoesNothingWithIt(t *testing.T) {
	w := newWorld(t)
	payload := []byte(strings.Repeat("x", 4<<10))
	const kept = 2000
	for i := range kept {
		if err := w.Publish(t.Context(), w.topics.Of(mqtt.KindDesired, "n"+strconv.Itoa(i), ""), payload, true); err != nil {
			t.Fatal(err)
		}
	}
	least := uint64(1 << 62)
	for range 5 { // what other tests have left may still be ending; a loop has its share in every one
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		<-time.After(3 * time.Second)
		runtime.ReadMemStats(&after)
		if least = min(least, after.TotalAlloc-before.TotalAlloc); least <= kept*100 {
			return
		}
	}
	t.Errorf("%d bytes were allocated in 3 s with nothing to do; wanted less than 100 for each message that is kept", least)
}
