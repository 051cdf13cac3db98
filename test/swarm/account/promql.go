package account

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"time"
)

// PromQL is the view of the telemetry store: raw samples, as a query with a range selector returns them.
type PromQL struct{ Client Getter }

// Name is promql.
func (*PromQL) Name() string { return "promql" }

// point is a sample in the answer: seconds since 1970, and the value as text.
type point struct {
	at    int64
	value float64
}

// UnmarshalJSON reads [seconds, "value"].
func (p *point) UnmarshalJSON(raw []byte) error {
	var pair [2]json.RawMessage
	if err := json.Unmarshal(raw, &pair); err != nil {
		return err
	}
	seconds, err := strconv.ParseFloat(string(pair[0]), 64)
	if err != nil {
		return err
	}
	var text string
	if err := json.Unmarshal(pair[1], &text); err != nil {
		return err
	}
	p.at = int64(math.Round(seconds * 1000))
	p.value, err = strconv.ParseFloat(text, 64)
	return err
}

// Samples asks for every sample of every series of node.
func (v *PromQL) Samples(ctx context.Context, node string, from, to time.Time) ([]Sample, error) {
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Values []point
			}
		}
	}
	span := to.Sub(from).Round(time.Second) + time.Minute
	query := fmt.Sprintf(`{__name__=~"%s.+",node=%q}[%ds]`, seriesPrefix, node, int(span.Seconds()))
	form := url.Values{"query": {query}, "time": {strconv.FormatInt(to.Add(time.Second).Unix(), 10)}}
	if err := v.Client.Get(ctx, "/api/v1/query?"+form.Encode(), &answer); err != nil {
		return nil, err
	}
	var out []Sample
	for _, series := range answer.Data.Result {
		number := seriesOf(series.Metric["__name__"])
		for _, p := range series.Values {
			if p.at >= from.UnixMilli() {
				out = append(out, Sample{number, p.at, p.value})
			}
		}
	}
	return out, nil
}
