package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/skerry-edge/skerry/api"
)

// provoke has a tier write a line into its log.
func (r *Rig) provoke(ctx context.Context, tier string) error {
	node := tier
	if tier == tierCluster {
		_, err := r.certify(ctx, "clock-"+api.NewID()) // it tells of each
		return err
	}
	req := api.CommandRequest{Nodes: []string{node}, Verb: "exec", Args: map[string]any{"argv": []string{r.script(node), api.NewID()}}, Deadline: "2m"}
	if err := r.site.Client.Post(ctx, "/v1/commands", req, nil); err != nil {
		return fmt.Errorf("provoke %s: %w", tier, err)
	}
	return nil
}

var logTime = regexp.MustCompile(`time=([0-9]\S+)`)

// lastLogged is the time in the last line of a log, of those beyond an offset.
func lastLogged(path string, from int64) (time.Time, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}, err
	}
	all := logTime.FindAllSubmatch(raw[min(from, int64(len(raw))):], -1)
	if len(all) == 0 {
		return time.Time{}, errors.New("no line was written")
	}
	return time.Parse(time.RFC3339Nano, string(bytes.TrimSpace(all[len(all)-1][1])))
}
