package command

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/skerry-edge/skerry/api"
)

// record is what the journal holds of one command. Output and result of a final status are kept apart until they are
// acknowledged: they are large, and then nobody needs them.
type record struct {
	Command  api.Command `json:"command"` // without its arguments once it is final
	Digest   string      `json:"digest"`  // of the command as it came
	Status   api.Status  `json:"status"`  // without output and result
	Attempts int         `json:"attempts,omitempty"`
	Boot     string      `json:"boot,omitempty"`  // boot id when it was journalled as running
	Agent    string      `json:"agent,omitempty"` // which life of the agent that was
	Acked    bool        `json:"acked,omitempty"`
	Bytes    int         `json:"bytes,omitempty"` // of the final status kept apart; 0 when there is none
}

// maxRecordBytes bounds a record: a command of the wire, its digest and a status.
const maxRecordBytes = api.MaxMessageBytes + 8<<10

func (r *record) encode() ([]byte, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode journal record: %w", err)
	}
	return raw, nil
}

// decodeRecord reads what encode wrote. It refuses whatever recovery could not act on.
func decodeRecord(raw []byte) (*record, error) {
	if len(raw) > maxRecordBytes {
		return nil, fmt.Errorf("decode journal record: %d bytes; wanted at most %d", len(raw), maxRecordBytes)
	}
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("decode journal record: %w", err)
	}
	if err := errors.Join(r.Command.Validate(), r.Status.Validate()); err != nil {
		return nil, fmt.Errorf("decode journal record: %w", err)
	}
	if r.Status.ID != r.Command.ID || r.Digest == "" || r.Bytes < 0 || r.Attempts < 0 {
		return nil, fmt.Errorf("decode journal record of %q: status of %q, digest %q, %d bytes, %d attempts do not fit it",
			r.Command.ID, r.Status.ID, r.Digest, r.Bytes, r.Attempts)
	}
	return &r, nil
}

// digest tells one command from another of the same id. The epoch and the time of signing are not in it: the cluster
// agent signs an undelivered command anew for each session.
func digest(cmd *api.Command) (string, error) {
	c := *cmd
	c.Epoch, c.Issued, c.Created, c.Claim = 0, 0, 0, nil
	raw, err := json.Marshal(c) // keys of maps are sorted
	if err != nil {
		return "", fmt.Errorf("digest command %s: %w", cmd.ID, err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16]), nil
}

// slim is s without what is large; what is left out counts as truncated.
func slim(s api.Status) api.Status {
	s.Truncated += int64(len(s.Output))
	s.Output, s.Result = "", nil
	return s
}
