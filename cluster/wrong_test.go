package cluster

import (
	"bytes"
	"strings"
	"testing"
)

func TestAWrongCommandLineIsToldWhatIsWrong(t *testing.T) {
	for args, want := range map[string]string{"": "no command", "rum": `unknown command "rum"; wanted run`, "run now": `run takes no argument; got ["now"]`,
		"run --nonsense": "unknown flag"} {
		var out, errs bytes.Buffer
		code := (&Door{Out: &out, Err: &errs}).Main(t.Context(), strings.Fields(args))
		if code != ExitConfig || !strings.Contains(errs.String(), want) || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%q: exit %d, %s; wanted %q in one line", args, code, errs.String(), want)
		}
	}
}

func TestTheEndOfTheLogIsKeptFromALinesBeginning(t *testing.T) {
	var l ownLog
	for range 10_000 {
		if _, err := l.Write([]byte("a line of some length or other, with the number of bytes that it has\n")); err != nil {
			t.Fatal(err)
		}
	}
	got := l.tail()
	if n := len(got); n > ownLogBytes*5/4 || n < ownLogBytes/2 || !bytes.HasPrefix(got, []byte("a line")) {
		t.Errorf("%d bytes, %.20q", n, got)
	}
}

func TestAddressesLoseTheirPasswords(t *testing.T) {
	for in, want := range map[string]string{"https://u:hunter2@h/p?token=s3cret": "https://u:xxxxx@h/p?token=xxxxx", "mqtts://h:8883": "mqtts://h:8883", "": ""} {
		if got := withoutPassword(in); got != want {
			t.Errorf("%s: %s; wanted %s", in, got, want)
		}
	}
}
