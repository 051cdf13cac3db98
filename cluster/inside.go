package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/cluster/access"
	"github.com/skerry-edge/skerry/cluster/command"
	"github.com/skerry-edge/skerry/cluster/kube/kubelet"
	"github.com/skerry-edge/skerry/cluster/rest"
	"github.com/skerry-edge/skerry/mqtt"
)

// inside reaches into containers on devices, for the kubelet API. Whether the caller may, the API server has said.
type inside struct{ *streams }

// conversationLimit bounds what a person does in a container, as the kubelet's streams are bounded by their silence.
const conversationLimit = 24 * time.Hour

func (s inside) who(by string) rest.Principal {
	return rest.Principal{Name: by, Role: api.RoleOperator, From: viaKube}
}

// audited runs t with an entry in the audit log beside the command, or one that says why it did not begin. What is said in a conversation is in
// neither: argv is in the journal.
func (s inside) audited(ctx context.Context, by, object string, t transfer, move func(context.Context, *mqtt.Stream) error) (api.CommandRecord, error) {
	who := s.who(by)
	entry := api.AuditEntry{By: by, Role: who.Role, Via: viaKube, Action: "pod." + strings.TrimPrefix(t.verb, "workload."), Object: clip(object), Result: access.ResultOK}
	t.journalled = func(tx *bbolt.Tx) error {
		_, err := s.agent.audit.AppendTx(tx, entry)
		return err
	}
	rec, err := s.run(ctx, t, who, move)
	if err != nil && rec.ID == "" {
		entry.Result = clip(err.Error())
		s.agent.record(entry)
	}
	return rec, err
}

// Logs copies what a container has written, stdout and stderr in the order in which they were.
func (s inside) Logs(ctx context.Context, by string, c kubelet.Container, l kubelet.Logs, w io.Writer) error {
	args := map[string]any{"workload": c.Workload, "container": c.Name}
	if l.Previous {
		args["previous"] = true
	}
	if l.Timestamps {
		args["timestamps"] = true
	}
	if l.Tail >= 0 {
		args["tail"] = l.Tail
	}
	if l.LimitBytes > 0 {
		args["limitBytes"] = l.LimitBytes
	}
	if !l.Since.IsZero() {
		args["since"] = l.Since.UTC().Format(time.RFC3339Nano)
	}
	wait := logDeadline
	if l.Follow {
		args["follow"], wait = true, followDeadline
	}
	_, err := s.audited(ctx, by, c.Node+":"+c.Pod+"/"+c.Name, transfer{node: c.Node, verb: "workload.logs", args: args, wait: wait}, func(ctx context.Context, st *mqtt.Stream) error {
		return drain(ctx, st, func(_ uint8, data []byte) error {
			_, err := w.Write(data)
			return err
		})
	})
	return err
}

// drain reads all channels until the node has closed the stream.
func drain(ctx context.Context, st *mqtt.Stream, take func(channel uint8, data []byte) error) error {
	for {
		channel, data, err := st.Read(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(data) > 0 {
			if err := take(channel, data); err != nil {
				return err
			}
		}
	}
}

// Exec runs argv in a container, or attaches to it when there is none.
func (s inside) Exec(ctx context.Context, by string, c kubelet.Container, argv []string, io kubelet.Streams) (exit int, err error) {
	verb, args := "workload.exec", map[string]any{"workload": c.Workload, "container": c.Name, "argv": argv, "tty": io.TTY, "stdin": io.Stdin != nil}
	if len(argv) == 0 {
		verb = "workload.attach"
		delete(args, "argv")
	}
	rec, err := s.audited(ctx, by, c.Node+":"+c.Pod+"/"+c.Name, transfer{node: c.Node, verb: verb, args: args, wait: conversationLimit}, func(ctx context.Context, st *mqtt.Stream) error {
		return converse(ctx, st, io)
	})
	if err == nil {
		return 0, nil
	}
	if now, found, gerr := s.agent.journal.Get(rec.ID); gerr == nil && found && now.Final && now.Status != nil && now.Status.Exit != nil {
		return *now.Status.Exit, nil // a program that failed is no failure to run it
	}
	return 0, err
}

// converse ties the ends of a conversation to a stream, until the node closes it.
func converse(ctx context.Context, st *mqtt.Stream, s kubelet.Streams) error {
	ctx, cancel := context.WithCancel(ctx)
	var sending sync.WaitGroup
	defer sending.Wait()
	defer cancel()
	if s.Stdin != nil {
		go func() { // not joined: a terminal that nobody types at cannot be woken, and its reader ends with the connection
			out := st.Writer(ctx, api.ChannelStdin)
			if _, err := io.Copy(out, s.Stdin); err == nil {
				_ = out.Close() // the node may have closed the stream already
			}
		}()
	}
	if s.Resize != nil {
		sending.Go(func() { sendSizes(ctx, st, s.Resize) })
	}
	return drain(ctx, st, func(channel uint8, data []byte) error {
		w := s.Stdout
		if channel == api.ChannelStderr && s.Stderr != nil {
			w = s.Stderr
		}
		if w == nil {
			return nil
		}
		_, err := w.Write(data)
		return err
	})
}

func sendSizes(ctx context.Context, st *mqtt.Stream, sizes <-chan kubelet.Size) {
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-sizes:
			if !ok {
				return
			}
			raw, err := json.Marshal(size)
			if err == nil {
				_, err = st.Write(ctx, api.ChannelResize, append(raw, '\n'))
			}
			if err != nil {
				return
			}
		}
	}
}

// Forward ties a connection to a TCP port of the device.
func (s inside) Forward(ctx context.Context, by string, c kubelet.Container, port int32, conn io.ReadWriteCloser) error {
	args := map[string]any{"workload": c.Workload, "port": port}
	t := transfer{node: c.Node, verb: "workload.forward", args: args, wait: conversationLimit}
	_, err := s.audited(ctx, by, fmt.Sprintf("%s:%s port %d", c.Node, c.Pod, port), t, func(ctx context.Context, st *mqtt.Stream) error {
		defer conn.Close()
		return converse(ctx, st, kubelet.Streams{Stdin: conn, Stdout: conn})
	})
	return err
}

// usageWithin bounds the question for what containers use: metrics-server gives up after ten seconds.
const usageWithin = 8 * time.Second

// Usage asks a device what its containers use; what it uses itself, its telemetry tells.
func (s inside) Usage(ctx context.Context, node string) (*kubelet.Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, usageWithin)
	defer cancel()
	rec, err := s.ask(ctx, node, "workload.stats")
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(rec.Status.Result)
	if err != nil {
		return nil, err
	}
	var told struct {
		Containers []struct {
			Workload  string        `json:"workload"`
			Container string        `json:"container"`
			CPU       time.Duration `json:"cpuNanos"`
			Memory    uint64        `json:"memoryBytes"`
			RSS       uint64        `json:"rssBytes"`
			Processes uint64        `json:"processes"`
		} `json:"containers"`
	}
	if err := json.Unmarshal(raw, &told); err != nil {
		return nil, fmt.Errorf("what node %s says of its containers: %w", node, err)
	}
	u, err := s.agent.nodeUsage(ctx, node)
	if err != nil {
		return nil, err
	}
	started := s.agent.startedOf(node)
	for _, c := range told.Containers {
		u.Containers = append(u.Containers, kubelet.ContainerUsage{Workload: c.Workload, Container: c.Container, CPUSeconds: c.CPU.Seconds(), MemoryBytes: c.Memory,
			RSSBytes: c.RSS, Processes: c.Processes, Started: started[c.Workload+"/"+c.Container]})
	}
	return u, nil
}

// ask runs a verb to its end. The journal forgets it then: a metrics-server asks each device every 15 s.
func (s inside) ask(ctx context.Context, node, verb string) (api.CommandRecord, error) {
	if err := s.there(node); err != nil {
		return api.CommandRecord{}, err
	}
	watch := s.agent.journal.Watch(ctx)
	defer watch.Close()
	by := s.who("kubelet")
	deadline, _ := ctx.Deadline()
	rec, err := s.agent.order(ctx, command.Order{Node: node, Verb: verb, By: journalName(by), Passing: true, Deadline: s.agent.clock.Now().Add(time.Until(deadline))}, by)
	for err == nil && !rec.Final {
		change, ok := <-watch.Changes()
		if !ok {
			return rec, errors.Join(ctx.Err(), watch.Err(), fmt.Errorf("node %s has not answered %s", node, verb))
		}
		if change.Item.ID == rec.ID {
			rec = change.Item
		}
	}
	if err == nil && (rec.Phase != api.PhaseSucceeded || rec.Status == nil) {
		err = fmt.Errorf("%s on node %s is %s: %s", verb, node, rec.Phase, outcome(&rec))
	}
	return rec, err
}
