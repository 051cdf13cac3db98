package telemetry

import (
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

func TestParseSeriesReadsTheTextForm(t *testing.T) {
	for text, want := range map[string]string{
		`up`:                     `{__name__="up"}`,
		`a:b_c9{}`:               `{__name__="a:b_c9"}`,
		`m{a="1",b="x y"}`:       `{__name__="m", a="1", b="x y"}`,
		`m{a="1",}`:              `{__name__="m", a="1"}`,
		`m{a="q\"b\\n\nz{}=,"}`:  `{__name__="m", a="q\"b\\n\nz{}=,"}`,
		`m{a="",b="2"}`:          `{__name__="m", b="2"}`,
		`m{mountpoint="/börde"}`: `{__name__="m", mountpoint="/börde"}`,
	} {
		ls, err := parseSeries(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := labels.New(ls...).String(); got != want {
			t.Errorf("%s: got %s; wanted %s", text, got, want)
		}
	}
}

func TestParseSeriesSaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		``: "metric name", `{a="1"}`: "metric name", `1m`: "metric name", `m `: "after the metric name",
		`m{a="1"}x`: "after the closing brace", `m{a="1"`: "no comma or }", `m{a=1}`: `wanted ="value"`,
		`m{a="1",a="2"}`: "comes twice", `m{a:b="1"}`: `wanted ="value"`, `m{="1"}`: "label name", `m{a="1`: "no closing quote",
		`m{a="\x"}`: "escape", `m{a="\`: "backslash", "m{a=\"x\ny\"}": "line break", "m{a=\"\xff\"}": "UTF-8",
		`m{__name__="x"}`: "before the brace", `m{a="1" b="2"}`: "no comma",
		`m{` + strings.Repeat(`a`, 3) + `="1",,}`: "label name",
	} {
		if _, err := parseSeries(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v; wanted an error about %q", text, err, want)
		}
	}
}

// Prometheus' own parser is the judge: what we take, it takes too, and reads the same.
func FuzzParseSeries(f *testing.F) {
	for _, seed := range []string{`up`, `m{a="1",b="x"}`, `m{a="q\"b\\n\nz"}`, `m{a="",}`, `m{a="1",a="2"}`, `m{node="x"}`, `m{`, `{}`, `on`, `inf{a="1"}`} {
		f.Add(seed)
	}
	judge := parser.NewParser(parser.Options{})
	f.Fuzz(func(t *testing.T, text string) {
		ls, err := parseSeries(text)
		if err != nil {
			return
		}
		want, err := judge.ParseMetric(text)
		if err != nil { // a name that is a word of PromQL, such as on, has to be quoted there
			want, err = judge.ParseMetric(quoteName(text))
		}
		if err != nil {
			t.Fatalf("%q: Prometheus says %v", text, err)
		}
		if got := labels.New(ls...); !labels.Equal(got, want.WithoutEmpty()) {
			t.Fatalf("%q: got %s; Prometheus has %s", text, got, want)
		}
		full, err := seriesLabels("c", "n", text)
		if err != nil || full.Get(labelNode) != "n" || full.Get(labelCluster) != "c" {
			t.Fatalf("%q: got %s, %v; wanted our node and cluster", text, full, err)
		}
		if dup, has := full.HasDuplicateLabelNames(); has {
			t.Fatalf("%q: label %s twice in %s", text, dup, full)
		}
	})
}

// quoteName writes m{a="1"} as {"m",a="1"}.
func quoteName(text string) string {
	end := nameEnd(text, true)
	rest := "}"
	if end < len(text) {
		rest = "," + text[end+1:]
	}
	return `{"` + text[:end] + `"` + rest
}
