package fault

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestASlowConsumerSaysHowManyMessagesItTakes has the broker's own library read what is written.
func TestASlowConsumerSaysHowManyMessagesItTakes(t *testing.T) {
	read := func(raw []byte) packets.Packet {
		from := bytes.NewReader(raw)
		first, err := from.ReadByte()
		if err != nil {
			t.Fatal(err)
		}
		pk := packets.Packet{ProtocolVersion: 5}
		if err := pk.FixedHeader.Decode(first); err != nil {
			t.Fatal(err)
		}
		rest, _, err := packets.DecodeLength(from)
		if err != nil || rest != from.Len() {
			t.Fatalf("%d bytes follow, %d are said to, %v", from.Len(), rest, err)
		}
		body := raw[len(raw)-rest:]
		if pk.FixedHeader.Type == packets.Connect {
			err = pk.ConnectDecode(body)
		} else {
			err = pk.SubscribeDecode(body)
		}
		if err != nil {
			t.Fatal(err)
		}
		return pk
	}
	name := "operator:unacked-" + strings.Repeat("x", 200) // so that the length takes two bytes
	c := read(connectPacket(name, 1))
	if c.ProtocolVersion != 5 || !c.Connect.Clean || c.Connect.ClientIdentifier != name || c.Properties.ReceiveMaximum != 1 || c.ConnectValidate() != packets.CodeSuccess {
		t.Errorf("%+v", c)
	}
	s := read(subscribePacket("skerry/v1/fault/+/tele", 1))
	if len(s.Filters) != 1 || s.Filters[0].Filter != "skerry/v1/fault/+/tele" || s.Filters[0].Qos != 1 || s.SubscribeValidate() != packets.CodeSuccess {
		t.Errorf("%+v", s)
	}
}

func TestWhatTheBrokerTurnedAwayIsCountedFromTheBeginningOfAFault(t *testing.T) {
	then := turnedAway{dropped: 7, stalled: 1}
	for now, want := range map[turnedAway]turnedAway{{7, 1}: {}, {9, 1}: {2, 0}, {7, 2}: {0, 1}, {3, 0}: {3, 0}} { // the last: of a broker that began anew
		if got := now.from(then); got != want {
			t.Errorf("%+v since %+v is %+v; wanted %+v", now, then, got, want)
		}
	}
}

func TestMetricsAreReadWithTheirLabels(t *testing.T) {
	got, err := readMetrics(strings.NewReader("# HELP a b 1\n# TYPE a counter\na 1.5e+06\nb{reason=\"stalled by 1\"} 2\n\n"))
	if want := map[string]float64{"a": 1.5e6, `b{reason="stalled by 1"}`: 2}; err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v; wanted %v", got, err, want)
	}
	if _, err := readMetrics(strings.NewReader("a one\n")); err == nil {
		t.Error("a value that is none is read")
	}
}
