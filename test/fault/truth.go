package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// edgeCommands is the truth about the commands of a node agent: the ends are those of its journal, the side effects those
// of its script. It has to be stopped.
func (r *Rig) edgeCommands(edge string, orders []account.Order) (map[string]account.Command, error) {
	out := map[string]account.Command{}
	ours := map[string]*account.Order{}
	for i := range orders {
		if orders[i].Node == edge {
			ours[orders[i].ID] = &orders[i]
		}
	}
	db, err := bbolt.Open(filepath.Join(r.process(edge).Disk, "state", "state.db"), 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("read journal of %s: %w", edge, err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		records := tx.Bucket([]byte("command-records"))
		if records == nil {
			return nil // it never had one
		}
		return records.ForEach(func(_, raw []byte) error {
			var rec struct {
				Command api.Command
				Status  api.Status
			}
			if err := json.Unmarshal(raw, &rec); err != nil {
				return err
			}
			if o := ours[rec.Command.ID]; o == nil || o.Verb == "ping" {
				return nil // of an earlier round; or kept over a stop only, and judged elsewhere
			}
			c := account.Command{Node: edge, Verb: rec.Command.Verb, Arrivals: 1}
			if rec.Status.Phase.Final() {
				c.Finals = []api.Phase{rec.Status.Phase}
			}
			out[rec.Command.ID] = c
			return nil
		})
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return nil, fmt.Errorf("read journal of %s: %w", edge, err)
	}
	raw, err := readIfAny(r.effects(edge))
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(raw) {
		id := string(bytes.TrimSpace(line))
		c, there := out[id]
		if o := ours[id]; !there && o == nil {
			continue // of an earlier round
		} else if !there {
			c = account.Command{Node: edge, Verb: o.Verb}
		}
		c.Effects++
		out[id] = c
	}
	return out, nil
}

// pings are the truth about commands that a node agent does not journal, because they may be done any number of times.
func (r *Rig) pings(ctx context.Context, orders []account.Order) (map[string]account.Command, error) {
	out := map[string]account.Command{}
	for i := range orders {
		if o := &orders[i]; o.Verb == "ping" {
			c := account.Command{Node: o.Node, Verb: o.Verb, Arrivals: 1}
			if err := r.lastWord(ctx, o, &c); err != nil {
				return nil, err
			}
			if len(c.Finals) == 1 && c.Finals[0] == api.PhaseSucceeded {
				c.Effects = 1
			}
			if len(c.Finals) > 0 {
				out[o.ID] = c
			}
		}
	}
	return out, nil
}

// believe fills in the ends of commands that a node agent's journal lacks since it was damaged.
func (r *Rig) believe(ctx context.Context, edge string, orders []account.Order, commands map[string]account.Command) error {
	for i := range orders {
		o := &orders[i]
		c, there := commands[o.ID]
		if o.Node != edge || o.Verb == "ping" || there && len(c.Finals) > 0 {
			continue
		}
		c.Node, c.Verb = o.Node, o.Verb
		if err := r.lastWord(ctx, o, &c); err != nil {
			return err
		}
		if there && len(c.Finals) == 0 { // done, and forgotten as was told: the cluster agent's own end is all there can be
			var rec api.CommandRecord
			if err := r.site.Client.Get(ctx, "/v1/commands/"+o.ID, &rec); err != nil {
				return err
			}
			if rec.Final && rec.Phase == api.PhaseTimedOut {
				c.Finals = []api.Phase{rec.Phase}
			}
		}
		if there || len(c.Finals) > 0 {
			commands[o.ID] = c
		}
	}
	return nil
}

// lastWord takes the last word of a node that the cluster agent has for the end of a command. A word that differs from it
// shows in another view.
func (r *Rig) lastWord(ctx context.Context, o *account.Order, c *account.Command) error {
	var rec api.CommandRecord
	err := r.site.Client.Get(ctx, "/v1/commands/"+o.ID, &rec)
	if p, ok := errors.AsType[*api.Problem](err); ok && p.Status == http.StatusNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if rec.Status != nil && rec.Status.Phase.Final() {
		c.Finals = []api.Phase{rec.Status.Phase}
	}
	return nil
}

// tailLoss is what a kill may take out of the memory of a node agent: the scrape under way, and the one before it.
const tailLoss = 4 * time.Second

// lateReadings: of an agent that is traced, and so slow, one reading in so many may come after its row and be replaced by the
// next. The row is there, with what else it holds; the number in it is another.
const lateReadings = 10

// scrapes compares what a node agent scraped with what is in the store. What is missing has to be excused: by a kill, by
// a scrape that the agent says it gave up on, by damage of which it reported that so many batches may be gone, or by drops
// that it reports.
func (r *Rig) scrapes(ctx context.Context, edge string, since int, damaged uint64) (sum account.Tally, bad []string, err error) {
	served := r.ticks[edge].all()
	stored, err := r.stored(ctx, tickSeries, edge)
	if err != nil {
		return sum, nil, err
	}
	there := map[int]int{}
	for _, v := range stored {
		there[int(v)]++
	}
	kills := r.process(edge).Kills()
	excused := func(at time.Time) bool {
		return slices.ContainsFunc(kills, func(k time.Time) bool { return at.Before(k.Add(time.Second)) && k.Sub(at) < tailLoss })
	}
	var missing []int
	for i := since; i < len(served); i++ {
		sum.Made++
		switch n := there[i+1]; {
		case n > 1:
			bad = append(bad, fmt.Sprintf("%s: scrape %d is stored %d times", edge, i+1, n))
			sum.Stored++
		case n == 1:
			sum.Stored++
		default:
			sum.Missing++
			if !excused(served[i]) {
				missing = append(missing, i+1)
			}
		}
	}
	dropped, err := r.reportedDrops(ctx, edge)
	if err != nil {
		return sum, nil, err
	}
	failed, err := r.failedScrapes(ctx, edge)
	if err != nil {
		return sum, nil, err
	}
	if r.process(edge).Clock != nil {
		failed += uint64(len(served)-since) / lateReadings
	}
	sum.Reported = dropped.Samples + dropped.Downsampled
	if len(missing) > 0 && uint64(len(missing)) > dropped.Batches+dropped.Downsampled+damaged+failed {
		bad = append(bad, fmt.Sprintf("%s: %d scrapes are missing, the first is %d at %s; it reports %d batches and %d samples as given up", edge,
			len(missing), missing[0], served[missing[0]-1].Format(time.TimeOnly), dropped.Batches, dropped.Samples))
	}
	return sum, bad, nil
}

// reportedDrops is what a node agent says that it gave up, by its own status.
func (r *Rig) reportedDrops(ctx context.Context, edge string) (api.Dropped, error) {
	st, err := r.status(ctx, edge)
	return st.Backlog.Dropped, err
}

// stored are all values of a series of a node, dated by now: no clock that was wrong may have dated one ahead.
func (r *Rig) stored(ctx context.Context, series, node string) ([]float64, error) {
	return r.selected(ctx, fmt.Sprintf("%s{node=%q}", series, node))
}

// failedScrapes is how often a node agent had to give up on the ticker: served, and not received.
func (r *Rig) failedScrapes(ctx context.Context, edge string) (n uint64, err error) {
	values, err := r.selected(ctx, fmt.Sprintf(`node_scrape_collector_success{node=%q,collector="tick"}`, edge))
	for _, v := range values {
		if v == 0 {
			n++
		}
	}
	return n, err
}

func (r *Rig) selected(ctx context.Context, selector string) ([]float64, error) {
	var answer struct {
		Data struct {
			Result []struct{ Values [][2]any }
		}
	}
	form := url.Values{"query": {selector + "[36h]"}, "time": {strconv.FormatInt(time.Now().Add(time.Second).Unix(), 10)}}
	if err := r.site.Client.Get(ctx, "/api/v1/query?"+form.Encode(), &answer); err != nil {
		return nil, fmt.Errorf("read %s: %w", selector, err)
	}
	var out []float64
	for _, s := range answer.Data.Result {
		for _, v := range s.Values {
			f, err := strconv.ParseFloat(fmt.Sprint(v[1]), 64)
			if err != nil {
				return nil, err
			}
			out = append(out, f)
		}
	}
	return out, nil
}

// gauge is the last value of a metric of the cluster agent, 0 when it has none.
func (r *Rig) gauge(ctx context.Context, name string) (float64, error) {
	resp, err := r.site.Client.Do(ctx, "GET", "/metrics", nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		return 0, err
	}
	for line := range strings.Lines(text.String()) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, nil
}

// events are those of a kind that the cluster agent has heard of.
func (r *Rig) events(ctx context.Context) ([]api.EventRecord, error) {
	var list api.List[api.EventRecord]
	err := r.site.Client.Get(ctx, "/v1/events?limit=1000", &list)
	return list.Items, err
}
