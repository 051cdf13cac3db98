package kept

import (
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

func TestALaterVersionAddsToEveryObjectAndToNoMap(t *testing.T) {
	got := string(Newer(t, []byte(`sum {"a":{"b":[{"c":1},{"key":{"d":12345678901234567890}}]}}`)))
	if strings.Count(got, Added) != 4 || !strings.HasPrefix(got, `sum {"a":{"b":[{"c":1,"`+Added) || !strings.Contains(got, "12345678901234567890") {
		t.Error(got)
	}
}

func TestADatabaseThatIsWrittenDownIsMadeAgain(t *testing.T) {
	dump := "a 7\n" + `a "\x00k" {"x":"y z"}` + "\n" + `a "l" "\xff \n"` + "\n" + `a "m" ""` + "\nb 0\n"
	path := filepath.Join(t.TempDir(), "db")
	Restore(t, path, []byte(dump), nil)
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if got, want := string(Dump(t, db)), dump+Added+" 0\n"+Added+` "key" "value"`+"\n"; got != want {
		t.Errorf("%s; wanted %s", got, want)
	}
}

func TestFillLeavesNothingEmpty(t *testing.T) {
	var v struct {
		A string
		B *struct{ C []map[string]int }
		D any
		e int
	}
	Fill(&v)
	if v.A == "" || v.B == nil || len(v.B.C) != 1 || v.B.C[0]["key"] == 0 || v.D == nil || v.e != 0 {
		t.Errorf("%+v", v)
	}
}
