package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"go.etcd.io/bbolt"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

// A command passes three processes, is signed and verified, decoded by decoders that refuse what encoding/json lets pass,
// and journalled. The echo by which it is judged passes three processes too; the other references add the rest, and nothing
// else: no product can be faster than they are.
type work int

const (
	plain  work = iota // an echo between processes: near end, broker, far end
	signed             // and the near end signs a command, the far end verifies it, each decodes what it gets
	stored             // and the near end journals the answer in one transaction
)

// The files in the directory that the three processes share.
const (
	addrFile  = "addr"
	keyFile   = "order.pub"
	readyFile = "ready"
	storeFile = "store.db"
)

// apart measures an echo between three processes, with w on top.
func (o options) apart(w work) func(context.Context, int) ([]float64, error) {
	return func(ctx context.Context, n int) ([]float64, error) {
		dir, err := os.MkdirTemp(o.dir, "apart-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		p, err := newPapers(dir)
		if err != nil {
			return nil, err
		}
		x, done, err := nearEnd(dir, w)
		if err != nil {
			return nil, err
		}
		defer done()
		b, err := startPart(ctx, dir, "broker", addrFile)
		if err != nil {
			return nil, err
		}
		defer b.stop()
		far := "back"
		if w > plain {
			far = "verify"
		}
		f, err := startPart(ctx, dir, far, readyFile)
		if err != nil {
			return nil, err
		}
		defer f.stop()
		addr, err := os.ReadFile(filepath.Join(dir, addrFile))
		if err != nil {
			return nil, err
		}
		return roundTrips(ctx, client{id: "there", tls: p.client}, string(addr), x, n)
	}
}

// startPart starts this program again as one of the others, and waits for the file by which it says that it is ready.
func startPart(ctx context.Context, dir, what, ready string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := spawn(filepath.Join(dir, what+".log"), self, "part", what, dir)
	if err != nil {
		return nil, err
	}
	err = p.until(ctx, what, func(context.Context) bool {
		_, err := os.Stat(filepath.Join(dir, ready))
		return err == nil
	})
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// nearEnd is who asks. done gives back what it holds.
func nearEnd(dir string, w work) (x exchange, done func(), err error) {
	x = exchange{topics: echoTopics(), node: echoNode, ask: always(echoed)}
	done = func() {}
	if w == plain {
		return x, done, nil
	}
	codec, err := mqtt.NewCodec()
	if err != nil {
		return x, done, err
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, keyFile), pub, 0o600)
	}
	if err != nil {
		return x, done, err
	}
	x.ask = func(id string) ([]byte, error) {
		now := time.Now()
		s, err := mqtt.Seal(key, mqtt.KindCmd, &api.Command{ID: id, Node: echoNode, Epoch: 1, Verb: "ping", By: "mqtt:bench",
			Issued: api.At(now), Deadline: api.At(now.Add(20 * time.Second))})
		if err != nil {
			return nil, err
		}
		return json.Marshal(s)
	}
	x.hear = func(answer []byte) error { return codec.Decode(mqtt.KindCmdStatus, answer, &api.Status{}) }
	if w == signed {
		return x, done, nil
	}
	db, err := bbolt.Open(filepath.Join(dir, storeFile), 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return x, done, err
	}
	done = func() { _ = db.Close() } // it is thrown away
	return journalling(x, db), done, nil
}

// journalling has x keep every answer in db.
func journalling(x exchange, db *bbolt.DB) exchange {
	hear := x.hear
	x.hear = func(answer []byte) error {
		if err := hear(answer); err != nil {
			return err
		}
		return db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("answers"))
			if err != nil {
				return err
			}
			number, err := b.NextSequence()
			if err != nil {
				return err
			}
			return b.Put(fmt.Appendf(nil, "%08d", number), answer)
		})
	}
	return x
}

// part is main of the other processes.
func part(ctx context.Context, what, dir string) error {
	p, err := loadPapers(dir)
	if err != nil {
		return err
	}
	switch what {
	case "broker":
		return brokerPart(ctx, dir, p)
	case "back":
		return farPart(ctx, dir, p, unchanged)
	case "verify":
		answer, err := verifier(dir)
		if err != nil {
			return err
		}
		return farPart(ctx, dir, p, answer)
	}
	return fmt.Errorf("part %q: wanted broker, back or verify", what)
}

func brokerPart(ctx context.Context, dir string, p *papers) error {
	b, err := echoBroker(p, os.Stderr)
	if err != nil {
		return err
	}
	told := make(chan error, 1)
	go func() {
		select {
		case <-b.Ready():
			told <- announcePart(dir, addrFile, b.Addr().String())
		case <-ctx.Done():
			told <- nil
		}
	}()
	return errors.Join(b.Run(ctx), <-told)
}

// farPart runs on one processor, as the node agent does.
func farPart(ctx context.Context, dir string, p *papers, answer func([]byte) ([]byte, error)) error {
	runtime.GOMAXPROCS(1)
	addr, err := os.ReadFile(filepath.Join(dir, addrFile))
	if err != nil {
		return err
	}
	s, err := farEnd(ctx, string(addr), p)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, s.close)()
	if err := announcePart(dir, readyFile, ""); err != nil {
		return err
	}
	if err := s.sendBack(answer); ctx.Err() == nil {
		return err
	}
	return nil
}

// announcePart writes a file that is whole as soon as it is there.
func announcePart(dir, name, content string) error {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// verifier answers commands that bear the near end's signature.
func verifier(dir string) (func([]byte) ([]byte, error), error) {
	key, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, err
	}
	codec, err := mqtt.NewCodec()
	if err != nil {
		return nil, err
	}
	return func(payload []byte) ([]byte, error) {
		var cmd api.Command
		if err := codec.Open([]ed25519.PublicKey{key}, mqtt.KindCmd, payload, &cmd); err != nil {
			return nil, err
		}
		return codec.Encode(mqtt.JSON, &api.Status{ID: cmd.ID, Phase: api.PhaseSucceeded, Epoch: cmd.Epoch, At: api.At(time.Now()),
			Result: map[string]any{"at": api.At(time.Now()), "timeQuality": "synchronised", "nodeUptimeSeconds": 1.5, "agentUptimeSeconds": 0.5}})
	}, nil
}
