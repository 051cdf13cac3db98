package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// maxUserOutput bounds what an exec or file probe may give.
const maxUserOutput = 64 << 10

// maxVerdicts bounds how many metric names of an endpoint are remembered as allowed or not.
const maxVerdicts = 2048

// newUser makes the probe that u describes; u was validated and has its defaults.
func newUser(u UserProbe, most int) (Probe, error) {
	r := reading{metric: u.Metric, scale: u.Scale, most: most}
	if len(u.Allow) > 0 {
		var err error
		if r.allow, err = regexp.Compile("^(?:" + strings.Join(u.Allow, "|") + ")$"); err != nil {
			return nil, fmt.Errorf("compile allow list of probe %s: %w", u.Name, err)
		}
	}
	switch u.Kind {
	case KindExec:
		return &execProbe{name: u.Name, argv: u.Argv, reading: r}, nil
	case KindFile:
		return &fileProbe{name: u.Name, path: u.Path, reading: r}, nil
	case KindPrometheus:
		return newScraper(u, r)
	}
	return nil, fmt.Errorf("probe %s: kind %q: wanted exec, file or prometheus", u.Name, u.Kind)
}

// reading turns the output of a user probe into samples, keeping the series it has written once.
type reading struct {
	metric string
	scale  float64
	allow  *regexp.Regexp
	most   int // series that are worth keeping; a text with more is cut there and reported

	parser   textParser
	key      []byte
	names    map[string]string // series by their one form
	verdicts map[string]bool   // of the allow-list, by metric
}

// output reads text that is one number or the text format.
func (r *reading) output(out []byte, emit func(string, float64)) error {
	trimmed := bytes.TrimSpace(out)
	if len(trimmed) == 0 {
		return errors.New("output is empty; wanted a number, `name value` lines or Prometheus text")
	}
	if v, ok := parseFloat(trimmed); ok {
		emit(r.metric, v*r.scale)
		return nil
	}
	if err := r.text(bytes.NewReader(out), emit); err != nil {
		return fmt.Errorf("parse output: %w", err)
	}
	return nil
}

// text reads the text format.
func (r *reading) text(in io.Reader, emit func(string, float64)) error {
	count := 0
	err := r.parser.parse(in, func(p *point) {
		if series := r.series(p); series != "" {
			if count++; count <= r.most {
				emit(series, p.value)
			}
		}
	})
	if err == nil && count > r.most {
		return fmt.Errorf("%d samples; wanted at most %d (telemetry.max_series), narrow them with allow", count, r.most)
	}
	return err
}

// series returns the one form of p's series, "" when the metric is not allowed.
func (r *reading) series(p *point) string {
	if r.allow != nil && !r.allows(p.name) {
		return ""
	}
	r.key = p.appendSeries(r.key[:0])
	series, known := r.names[string(r.key)]
	if !known {
		if r.names == nil || len(r.names) >= 2*r.most {
			r.names = make(map[string]string)
		}
		series = string(r.key)
		r.names[series] = series
	}
	return series
}

func (r *reading) allows(name []byte) bool {
	verdict, known := r.verdicts[string(name)]
	if !known {
		if r.verdicts == nil || len(r.verdicts) >= maxVerdicts {
			r.verdicts = make(map[string]bool)
		}
		verdict = r.allow.Match(name)
		r.verdicts[string(name)] = verdict
	}
	return verdict
}

type fileProbe struct {
	name string
	path string
	buf  scratch
	reading
}

func (p *fileProbe) Name() string { return p.name }

func (p *fileProbe) Read(_ context.Context, emit func(string, float64)) error {
	info, err := os.Stat(p.path)
	if err != nil {
		return fmt.Errorf("read value: %w", err)
	}
	if !info.Mode().IsRegular() { // a device or pipe would wait, or be changed by being read
		return fmt.Errorf("read %s: it is no regular file, but a directory, device or the like", p.path)
	}
	data, err := p.buf.read(p.path, maxUserOutput)
	if err != nil {
		return err
	}
	return p.output(data, emit)
}

// tail keeps the beginning of what a program complains about, for the error.
type tail struct {
	buf  bytes.Buffer
	most int
}

func (t *tail) Write(b []byte) (int, error) {
	t.buf.Write(b[:min(len(b), t.most-t.buf.Len())])
	return len(b), nil
}

// capped collects output up to its limit, then calls over once.
type capped struct {
	buf  []byte
	over func()
	full bool
}

func (c *capped) Write(b []byte) (int, error) {
	if len(c.buf)+len(b) > maxUserOutput {
		if !c.full {
			c.full = true
			c.over()
		}
		return 0, fmt.Errorf("output exceeds %d bytes", maxUserOutput)
	}
	c.buf = append(c.buf, b...)
	return len(b), nil
}
