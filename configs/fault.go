package configs

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a configuration.
type Fault struct {
	Field  string // dotted key, or the file or variable
	Value  string // what was found; never a secret
	Wanted string
	Where  string // file:line, variable or flag that gave it; empty when that is plain

	line int // in the file, 0 when it is not there
}

// Error reads: telemetry.interval "5x" (/etc/skerry/edge.yaml:3): wanted a duration such as 10s.
func (f Fault) Error() string {
	text := f.Field
	if f.Value != "" {
		text += fmt.Sprintf(" %q", f.Value)
	}
	if f.Where != "" {
		text += " (" + f.Where + ")"
	}
	return text + ": wanted " + f.Wanted
}

// faults collects every fault, so that one run tells all.
type faults []error

func (f *faults) add(field string, value any, wanted string) {
	*f = append(*f, Fault{Field: field, Value: show(value), Wanted: wanted})
}

// need adds a fault unless ok.
func (f *faults) need(ok bool, field string, value any, wanted string) {
	if !ok {
		f.add(field, value, wanted)
	}
}

func (f faults) err() error { return errors.Join(f...) }

// show writes a value as the file would.
func show(value any) string {
	switch x := value.(type) {
	case []string:
		return "[" + strings.Join(x, ", ") + "]"
	case []any:
		return "a list"
	case entry, map[string]any, map[any]any:
		return "a section"
	}
	return fmt.Sprint(value)
}

func (l *loader) add(field string, value any, wanted string) {
	if field == "join" {
		value = "(not shown)"
	}
	l.bad.add(field, value, wanted)
}

// unknown is the fault of a key that nobody knows.
func (l *loader) unknown(key string) { l.bad.add(key, "", "a key that `config --defaults` lists") }

// at notes where in the file a key stands.
func (l *loader) at(key string, line int) { l.lines[key] = line }

func (l *loader) place(line int) string { return fmt.Sprintf("%s:%d", l.file, line) }

// finish returns all faults, those of the file in the order of its lines: what the sources got wrong, and then what
// check has against the values. Where a value could not be read, check saw the default or nothing, and has no say.
func (l *loader) finish(check func(bad *faults)) error {
	unread := map[string]bool{}
	for i, err := range l.bad {
		if f, ok := errors.AsType[Fault](err); ok {
			unread[f.Field] = true
			l.bad[i] = l.locate(f)
		}
	}
	var late faults
	check(&late)
	for _, err := range late {
		if f, ok := errors.AsType[Fault](err); !ok {
			l.bad = append(l.bad, err)
		} else if !slices.ContainsFunc(upward(f.Field), func(key string) bool { return unread[key] }) {
			l.bad = append(l.bad, l.locate(f))
		}
	}
	slices.SortStableFunc(l.bad, func(a, b error) int { return cmp.Compare(lineOf(a), lineOf(b)) })
	return slices.CompactFunc(l.bad, func(a, b error) bool { return a.Error() == b.Error() }).err()
}

// locate finds out where the value of a fault comes from: the last source that gave it, or the entry that it is in.
func (l *loader) locate(f Fault) Fault {
	if f.Where != "" {
		return f
	}
	for _, key := range upward(f.Field) {
		if by, ok := l.where[key]; ok {
			f.Where = by
			return f
		}
		if line, ok := l.lines[key]; ok {
			f.Where, f.line = l.place(line), line
			return f
		}
	}
	return f
}

// upward lists a key and all that it is in, such as a[1].b, a[1] and a.
func upward(key string) []string {
	var out []string
	for ; key != ""; key = key[:max(0, strings.LastIndexAny(key, ".["))] {
		out = append(out, key)
	}
	return out
}

// lineOf sorts what is not in the file behind what is.
func lineOf(err error) int {
	if f, ok := errors.AsType[Fault](err); ok && f.line > 0 {
		return f.line
	}
	return maxFileBytes
}
