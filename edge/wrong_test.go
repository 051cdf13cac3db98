package edge

import (
	"bytes"
	"strings"
	"testing"
)

func TestAWrongCommandLineIsToldWhatIsWrong(t *testing.T) {
	for args, want := range map[string]string{"": "no command", "rum": `unknown command "rum"; wanted run`, "run now": `run takes no argument; got ["now"]`,
		"status -o yaml": `-o "yaml": wanted text or json`, "run --nonsense": "unknown flag"} {
		var out, errs bytes.Buffer
		code := (&Door{Out: &out, Err: &errs}).Main(t.Context(), strings.Fields(args))
		if code != ExitConfig || !strings.Contains(errs.String(), want) || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%q: exit %d, %s; wanted %q in one line", args, code, errs.String(), want)
		}
	}
}
