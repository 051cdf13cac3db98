package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/skerry-edge/skerry/agent"
	"github.com/skerry-edge/skerry/api"
)

// follow prints items, and then what changes of them. It outlives a restart of the cluster agent: then it lists anew,
// and prints what is different.
func (l *listing[T]) follow(ctx context.Context, c *Client, a *App, items []T) error {
	p := &printer[T]{listing: l, out: a.Out, grid: newGrid(a.Out, l.format, l.resource.columns), seen: map[string]string{}}
	p.grid.roomy = true
	if err := p.first(items); err != nil {
		return err
	}
	l.query.Set("kind", l.kind.singular)
	if l.query.Has("open") || l.query.Has("limit") { // of the list alone
		l.query.Del("open")
		l.query.Del("limit")
	}
	return a.persist(ctx, func(again bool) error {
		if again {
			short, cancel := a.within(ctx)
			items, err := l.list(short, c)
			cancel()
			if err != nil {
				return err
			}
			for _, it := range items {
				if err := p.change("modified", it); err != nil {
					return err
				}
			}
		}
		return c.Watch(ctx, l.query, func(ch *api.Change) error {
			it := l.resource.changed(ch)
			if it == nil || l.name != "" && l.resource.nameOf(*it) != l.name {
				return nil
			}
			return p.change(ch.Type, *it)
		})
	})
}

// persist calls try until it fails otherwise than by the cluster agent's absence, or ctx ends. The first time again is
// false.
func (a *App) persist(ctx context.Context, try func(again bool) error) error {
	backoff := agent.Backoff{Min: 500 * time.Millisecond, Max: 10 * time.Second}
	told := false
	for again := false; ; again = true {
		began := a.Now()
		err := try(again)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil || exitCode(err) != ExitUnreachable {
			return err
		}
		if a.Now().Sub(began) > time.Minute { // it had been fine
			backoff.Reset()
			told = false
		}
		if !told {
			told = true
			_, _ = write(a.Err, "skerry: "+printable(err.Error())+"; trying again\n")
		}
		if !agent.Wait(ctx, backoff.Next()) {
			return context.Cause(ctx)
		}
	}
}

// printer writes items and their changes, each once.
type printer[T any] struct {
	listing *listing[T]
	out     io.Writer
	grid    *grid[T]
	seen    map[string]string // what was printed last of each item, by name
}

func (p *printer[T]) tabular() bool { return p.listing.format == "table" || p.listing.format == "wide" }

// maxSeen bounds what is remembered of items; events never change, so that forgetting one costs a doubled row after a
// restart of the cluster agent at worst.
const maxSeen = 100_000

// first prints what is there to begin with.
func (p *printer[T]) first(items []T) error {
	if p.tabular() {
		for _, it := range items {
			p.seen[p.listing.resource.nameOf(it)] = p.grid.news(it)
		}
		return p.grid.page(items)
	}
	for _, it := range items {
		if err := p.change("added", it); err != nil {
			return err
		}
	}
	return nil
}

// change prints what became of an item, unless it would look as it did before.
func (p *printer[T]) change(how string, it T) error {
	name := p.listing.resource.nameOf(it)
	raw, err := json.Marshal(it)
	if err != nil {
		return err
	}
	news := string(raw)
	if p.tabular() {
		news = p.grid.news(it)
	}
	if how == "deleted" {
		news = how
	}
	if len(p.seen) > maxSeen {
		clear(p.seen)
	}
	last, known := p.seen[name]
	if known && last == news {
		return nil
	}
	if !known && how == "modified" { // to who looks on, it is new
		how = "added"
	}
	p.seen[name] = news
	switch p.listing.format {
	case "json":
		_, err = fmt.Fprintf(p.out, "%s\n", changed(how, raw))
		return err
	case "yaml":
		var text bytes.Buffer
		if err := writeYAML(&text, it); err != nil {
			return err
		}
		_, err := fmt.Fprintf(p.out, "change: %s\n%s---\n", how, text.String())
		return err
	case "name":
		_, err := fmt.Fprintln(p.out, name)
		return err
	}
	if how == "deleted" {
		return p.grid.aside(it, "(deleted)")
	}
	return p.grid.page([]T{it})
}

// changed puts what happened in front of the fields of an object.
func changed(how string, object []byte) []byte {
	rest := bytes.TrimPrefix(object, []byte("{"))
	out := fmt.Appendf(nil, `{"change":%q`, how)
	if !bytes.HasPrefix(rest, []byte("}")) {
		out = append(out, ',')
	}
	return append(out, rest...)
}
