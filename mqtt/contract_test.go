package mqtt

import (
	"testing"

	"github.com/skerry-edge/skerry/api"
)

func TestTheContractIsAskedWithoutGarbage(t *testing.T) {
	topics := Topics{Root: DefaultRoot, Cluster: "c"}
	if n := testing.AllocsPerRun(100, func() { _, _ = EntryOf(KindCmd) }); n != 0 {
		t.Errorf("EntryOf allocates %v times; wanted none", n)
	}
	if n := testing.AllocsPerRun(100, func() { _ = topics.Of(KindCmd, "n", "i") }); n > 3 {
		t.Errorf("Topics.Of allocates %v times; wanted the topic and its parts", n)
	}
}

func TestNobodyCanChangeTheContract(t *testing.T) {
	for i := range Contract() {
		Contract()[i].MaxBytes = 0
	}
	for kind := KindState; kind <= lastKind; kind++ {
		if e, ok := EntryOf(kind); !ok || e.Kind != kind || e.MaxBytes == 0 {
			t.Errorf("entry of kind %d is %+v, %v; wanted its own, unchanged", kind, e, ok)
		}
	}
	for _, kind := range []Kind{0, lastKind + 1} {
		if _, ok := EntryOf(kind); ok {
			t.Errorf("there is an entry of kind %d", kind)
		}
	}
	codec, err := NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	if err := codec.Decode(lastKind+1, []byte(`{}`), &api.Ack{}); err == nil {
		t.Error("a message of no kind was decoded")
	}
}
