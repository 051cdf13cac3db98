package fault

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/test/swarm/account"
)

// stoppedTruth stops a node agent, takes the truth about its commands, and starts it again.
func (r *Round) stoppedTruth(ctx context.Context, edge string, orders []account.Order) (map[string]account.Command, error) {
	began, err := r.journalLost(ctx, edge)
	if err != nil {
		return nil, err
	}
	if err := r.rig.process(edge).Stop(ctx); err != nil {
		return nil, err
	}
	commands, err := r.rig.edgeCommands(edge, orders, began)
	if err != nil {
		return nil, err
	}
	if began {
		if err := believe(ctx, edge, r.rig.hurtAt(edge, stateFile), orders, r.rig.record, commands); err != nil {
			return nil, err
		}
	}
	return commands, r.rig.process(edge).Start(ctx)
}

// edgeCommands is the truth about the commands of a node agent: the ends are those of its journal, or refusals that a full disk
// kept out of it, the side effects those of its script. It has to be stopped. A journal that began anew also refuses what one before it
// may have known, with the end failed.
func (r *Rig) edgeCommands(edge string, orders []account.Order, began bool) (map[string]account.Command, error) {
	out := map[string]account.Command{}
	ours := map[string]*account.Order{}
	for i := range orders {
		if orders[i].Node == edge {
			ours[orders[i].ID] = &orders[i]
		}
	}
	if err := r.journalled(edge, ours, out); err != nil {
		return nil, fmt.Errorf("read journal of %s: %w", edge, err)
	}
	log, err := readIfAny(r.process(edge).Log)
	if err != nil {
		return nil, err
	}
	for id, phase := range unjournalled(log) {
		if _, there := out[id]; !there && ours[id] != nil && (phase == api.PhaseRejected || began && phase == api.PhaseFailed) {
			out[id] = account.Command{Node: edge, Verb: ours[id].Verb, Arrivals: 1, Finals: []api.Phase{phase}}
		}
	}
	raw, err := readIfAny(r.effects(edge))
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(raw) {
		id := string(bytes.TrimSpace(line))
		if known, ok := r.alias[id]; ok {
			id = known
		}
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

// journalled adds the commands of this round that the journal of a node agent has.
func (r *Rig) journalled(edge string, ours map[string]*account.Order, out map[string]account.Command) error {
	db, err := bbolt.Open(filepath.Join(r.process(edge).Disk, "state", stateFile), 0o600, &bbolt.Options{ReadOnly: true, Timeout: 10 * time.Second})
	if err != nil {
		return err
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
	return errors.Join(err, db.Close())
}

// stored are all samples of a series of a node, dated by now: no clock that was wrong may have dated one ahead.
func (r *Rig) stored(ctx context.Context, series, node string) ([]reading, error) {
	return r.selectedUntil(ctx, fmt.Sprintf("%s{node=%q}", series, node), time.Now().Add(time.Second), 36*time.Hour)
}

// seriesOf is how many series a node has at present.
func (r *Rig) seriesOf(ctx context.Context, node string) (int, error) {
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	form := url.Values{"query": {fmt.Sprintf("count({node=%q})", node)}}
	if err := r.site.Client.Get(ctx, "/api/v1/query?"+form.Encode(), &answer); err != nil || len(answer.Data.Result) == 0 {
		return 0, err
	}
	return strconv.Atoi(fmt.Sprint(answer.Data.Result[0].Value[1]))
}

// reading is a sample in the store.
type reading struct {
	at    time.Time
	value float64
}

func (r *Rig) selectedUntil(ctx context.Context, selector string, end time.Time, window time.Duration) ([]reading, error) {
	var answer struct {
		Data struct {
			Result []struct{ Values [][2]any }
		}
	}
	form := url.Values{"query": {fmt.Sprintf("%s[%ds]", selector, int(window.Seconds()))}, "time": {strconv.FormatInt(end.Unix(), 10)}}
	if err := r.site.Client.Get(ctx, "/api/v1/query?"+form.Encode(), &answer); err != nil {
		return nil, fmt.Errorf("read %s: %w", selector, err)
	}
	var out []reading
	for _, s := range answer.Data.Result {
		for _, v := range s.Values {
			seconds, ok := v[0].(float64)
			f, err := strconv.ParseFloat(fmt.Sprint(v[1]), 64)
			if err != nil || !ok {
				return nil, fmt.Errorf("read %s: sample %v: wanted [seconds, \"number\"]", selector, v)
			}
			out = append(out, reading{time.UnixMilli(int64(math.Round(seconds * 1000))), f})
		}
	}
	return out, nil
}

// gauge is the value of a metric of the cluster agent.
func (r *Rig) gauge(ctx context.Context, name string) (float64, error) {
	all, err := r.metrics(ctx)
	if err != nil {
		return 0, err
	}
	v, there := all[name]
	if !there {
		return 0, fmt.Errorf("it has no metric %s", name)
	}
	return v, nil
}

// metrics are all of the cluster agent, by name and labels as it writes them.
func (r *Rig) metrics(ctx context.Context) (map[string]float64, error) {
	resp, err := r.site.Client.Do(ctx, "GET", "/metrics", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return readMetrics(resp.Body)
}

func readMetrics(from io.Reader) (map[string]float64, error) {
	out := map[string]float64{}
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("read metric %q: %w", line, err)
		}
		out[line[:at]] = v
	}
	return out, lines.Err()
}

// events are those of a kind that the cluster agent has heard of.
func (r *Rig) events(ctx context.Context) ([]api.EventRecord, error) {
	var list api.List[api.EventRecord]
	err := r.site.Client.Get(ctx, "/v1/events?limit=1000", &list)
	return list.Items, err
}
