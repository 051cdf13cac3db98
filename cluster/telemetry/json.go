package telemetry

import (
	"bufio"
	"encoding/json"
	"math"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// jsonWriter writes query results in the form of Prometheus' HTTP API, byte for byte, without building them in memory.
// Its buffer keeps the first error.
type jsonWriter struct {
	*bufio.Writer
	scratch []byte
}

func (w *jsonWriter) raw(s string) { w.keep(w.Writer.WriteString(s)) }

// keep drops the result of a write: Flush returns the first error.
func (*jsonWriter) keep(int, error) {}

func (w *jsonWriter) string(s string) {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		c := s[i]
		plain = c >= ' ' && c < 0x7f && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	if plain {
		w.raw(`"`)
		w.raw(s)
		w.raw(`"`)
		return
	}
	quoted, err := json.Marshal(s) // cannot fail for a string
	if err == nil {
		w.keep(w.Write(quoted))
	}
}

// timestamp writes milliseconds as seconds with three decimals or none.
func (w *jsonWriter) timestamp(ms int64) {
	b := w.scratch[:0]
	if ms < 0 {
		b = append(b, '-')
		ms = -ms
	}
	b = strconv.AppendInt(b, ms/1000, 10)
	if rest := ms % 1000; rest != 0 {
		b = append(b, '.', byte('0'+rest/100), byte('0'+rest/10%10), byte('0'+rest%10))
	}
	w.scratch = b
	w.keep(w.Write(b))
}

// seconds writes milliseconds as seconds with no more decimals than needed, as Prometheus does for scalars and strings.
func (w *jsonWriter) seconds(ms int64) {
	w.scratch = strconv.AppendFloat(w.scratch[:0], float64(ms)/1000, 'f', -1, 64)
	w.keep(w.Write(w.scratch))
}

func (w *jsonWriter) float(v float64) {
	format := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	b := append(w.scratch[:0], '"')
	b = strconv.AppendFloat(b, v, format, -1, 64)
	w.scratch = append(b, '"')
	w.keep(w.Write(w.scratch))
}

func (w *jsonWriter) labels(ls labels.Labels) {
	w.raw("{")
	first := true
	ls.Range(func(l labels.Label) {
		if !first {
			w.raw(",")
		}
		first = false
		w.string(l.Name)
		w.raw(":")
		w.string(l.Value)
	})
	w.raw("}")
}

func (w *jsonWriter) point(t int64, v float64) {
	w.raw("[")
	w.timestamp(t)
	w.raw(",")
	w.float(v)
	w.raw("]")
}

// result writes the data of a query. The store holds no native histograms, so no result has any.
func (w *jsonWriter) result(value parser.Value) {
	w.raw(`{"resultType":`)
	w.string(string(value.Type()))
	w.raw(`,"result":`)
	switch v := value.(type) {
	case promql.Vector:
		w.raw("[")
		for i, x := range v {
			w.comma(i)
			w.raw(`{"metric":`)
			w.labels(x.Metric)
			w.raw(`,"value":`)
			w.point(x.T, x.F)
			w.raw("}")
		}
		w.raw("]")
	case promql.Matrix:
		w.raw("[")
		for i, x := range v {
			w.comma(i)
			w.series(x)
		}
		w.raw("]")
	case promql.Scalar:
		w.raw("[")
		w.seconds(v.T)
		w.raw(`,"`)
		w.keep(w.Write(strconv.AppendFloat(nil, v.V, 'f', -1, 64)))
		w.raw(`"]`)
	case promql.String:
		w.raw("[")
		w.seconds(v.T)
		w.raw(",")
		w.string(v.V)
		w.raw("]")
	}
	w.raw("}")
}

func (w *jsonWriter) series(x promql.Series) {
	w.raw(`{"metric":`)
	w.labels(x.Metric)
	if len(x.Floats) > 0 {
		w.raw(`,"values":[`)
		for i, p := range x.Floats {
			w.comma(i)
			w.point(p.T, p.F)
		}
		w.raw("]")
	}
	w.raw("}")
}

func (w *jsonWriter) comma(i int) {
	if i > 0 {
		w.raw(",")
	}
}

func (w *jsonWriter) strings(list []string) {
	w.raw("[")
	for i, s := range list {
		w.comma(i)
		w.string(s)
	}
	w.raw("]")
}
