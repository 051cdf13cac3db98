package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/skerry-edge/skerry/api"
	"github.com/skerry-edge/skerry/mqtt"
)

func direction(d mqtt.Direction) string {
	return map[mqtt.Direction]string{mqtt.Up: "node → cluster", mqtt.Down: "cluster → node", mqtt.Ask: "operator → cluster",
		mqtt.Reply: "cluster → operator", mqtt.Among: "cluster ↔ cluster"}[d]
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func mqttPage(c comments) string {
	var b strings.Builder
	b.WriteString("# MQTT reference, wire version 1\n\nGenerated from `mqtt/contract.go` and package `api` by `make docs`. " +
		"Decisions: [ADR 3](adr/0003-wire-details.md).\n\n" +
		"Topics begin with `" + mqtt.DefaultRoot + "/{cluster}/{node}/` (the root can be configured). Ids match `[a-z0-9][a-z0-9.-]{0,62}`. Every " +
		"message is QoS 1. JSON or CBOR, told by the first byte; instants are Unix milliseconds. Longer than the limit, nested deeper than 8, a " +
		"key twice, or anything after the message: refused. Signed messages travel as JWS flattened JSON (`protected`, `payload`, " +
		"`signature`; EdDSA).\n\n| topic | who | retained | signed | limit | message | content |\n|---|---|---|---|---|---|---|\n")
	for _, e := range mqtt.Contract() {
		t := reflect.TypeOf(e.Message).Name()
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %d KiB | [%s](#%s) | %s |\n", e.Suffix, direction(e.Dir), yes(e.Retain), yes(e.Signed),
			e.MaxBytes>>10, t, strings.ToLower(t), e.Help)
	}
	b.WriteString(`
## Who may do what

A node publishes what goes up and receives what comes down, under its own id. A viewer subscribes, for one node or with
` + "`+`" + ` for all, to ` + kindNames(mqtt.Readable(api.RoleViewer)) + `. An operator also reads what becomes of commands, their output included
(` + kindNames(mqtt.Readable(api.RoleOperator)[len(mqtt.Readable(api.RoleViewer)):]) + `), and publishes ` + "`request/{id}`" + `. Nobody reads what is ordered,
or streams, and nobody writes to a device but the cluster agent.

Ask for a command as an operator and follow it:

    mosquitto_sub … -t 'skerry/v1/harbour/pump-3/request/try1/status' &
    mosquitto_pub … -q 1 -t 'skerry/v1/harbour/pump-3/request/try1' -m '{"verb":"ping","deadline":"10s"}'

The id is the command's: the same request again, by the same person, is the same command, and its status is told again. All
requests with one id on one node have the same status topic, so choose one that nobody else does, such as your name and a
counter. Where somebody's command has the id already, another request with it, be it of somebody else or one that cannot be
read, is refused and audited, and ends nothing: the status topic then repeats the phase of the command that has the id, and
` + "`reason`" + ` says whose request was refused, and why. ` + "`rejected`" + ` is published only where no request with the id became a command.

What a certificate may not publish ends the connection and is in the audit log.

`)
	seen := map[reflect.Type]bool{}
	for _, e := range mqtt.Contract() {
		describe(&b, reflect.TypeOf(e.Message), c, seen)
	}
	return b.String()
}

func kindNames(kinds []mqtt.Kind) string {
	var names []string
	for _, k := range kinds {
		e, _ := mqtt.EntryOf(k)
		names = append(names, "`"+e.Suffix+"`")
	}
	return strings.Join(names, ", ")
}

// describe writes a type's fields, then those of the types in it.
func describe(b *strings.Builder, t reflect.Type, c comments, seen map[reflect.Type]bool) {
	if t.Kind() != reflect.Struct || seen[t] || !strings.HasSuffix(t.PkgPath(), "/api") {
		return
	}
	seen[t] = true
	fmt.Fprintf(b, "## %s\n\n%s\n\n", t.Name(), c[t.Name()])
	if special(t) != "" {
		return
	}
	b.WriteString("| field | type | meaning |\n|---|---|---|\n")
	var inner []reflect.Type
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		kind, of := typeName(f.Type)
		if strings.Contains(opts, "omitempty") {
			kind += ", optional"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, kind, strings.ReplaceAll(c[t.Name()+"."+f.Name], "|", "\\|"))
		if of != nil && !slices.Contains(inner, of) {
			inner = append(inner, of)
		}
	}
	b.WriteString("\n")
	for _, of := range inner {
		describe(b, of, c, seen)
	}
}

// special is the wire form of a type that encodes itself.
func special(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[api.Row]():
		return "array: offset, then numbers or null"
	case reflect.TypeFor[api.Deadline]():
		return "string: duration or RFC 3339"
	case reflect.TypeFor[api.Millis]():
		return "integer, Unix milliseconds"
	case reflect.TypeFor[api.Base64URL]():
		return "string, base64url"
	}
	return ""
}

// typeName writes a Go type as a JSON reader sees it, and returns the struct in it, if any.
func typeName(t reflect.Type) (string, reflect.Type) {
	if s := special(t); s != "" {
		return s, nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "string, base64 (CBOR: bytes)", nil
		}
		name, of := typeName(t.Elem())
		return "array of " + name, of
	case reflect.Map:
		name, of := typeName(t.Elem())
		return "object of " + name, of
	case reflect.Struct:
		return "[" + t.Name() + "](#" + strings.ToLower(t.Name()) + ")", t
	case reflect.String:
		return "string", nil
	case reflect.Bool:
		return "boolean", nil
	case reflect.Float32, reflect.Float64:
		return "number", nil
	case reflect.Interface:
		return "any", nil
	}
	return "integer", nil
}
