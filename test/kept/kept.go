// Package kept is for tests of what a program keeps on disk: that today's version writes the format that was recorded, reads what was recorded, and
// reads what the next minor version may add to it.
//
// testdata/kept holds the format of this version, testdata/kept/previous that of the release before, if it had the file: they are copied there by who
// makes the release that follows it. `go test PACKAGE -keep` writes the first anew.
package kept

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

var record = flag.Bool("keep", false, "write what is in testdata/kept anew")

const dir = "testdata/kept"

// Recording reports whether what is recorded is to be made anew.
func Recording() bool { return *record }

// Same checks that raw is what was recorded, byte for byte.
func Same(t testing.TB, name string, raw []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	if *record {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path, raw, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if want := File(t, name); !bytes.Equal(raw, want) {
		t.Errorf("%s is not written as it was recorded: devices of one minor version apart have to read it. Got\n%s\nwanted\n%s", name, raw, want)
	}
}

// File is what was recorded of this version.
func File(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Each calls read with what was recorded of this version, and of the one before, which lacks what was added since.
func Each(t testing.TB, name string, read func(raw []byte, today bool)) {
	t.Helper()
	read(File(t, name), true)
	raw, err := os.ReadFile(filepath.Join(dir, "previous", name))
	if err == nil {
		read(raw, false)
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// Document checks a document of JSON whose values are full's: see the package. Decode reads all of it.
func Document[T any](t testing.TB, name string, full T, encode func(T) ([]byte, error), decode func([]byte) (T, error)) {
	t.Helper()
	raw, err := encode(full)
	if err != nil {
		t.Fatal(err)
	}
	Same(t, name, raw)
	Each(t, name, func(raw []byte, today bool) {
		t.Helper()
		plain, err := decode(raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if today && !reflect.DeepEqual(plain, full) {
			t.Errorf("%s is read as %+v; wanted %+v", name, plain, full)
		}
		newer, err := decode(Newer(t, raw))
		if err != nil || !reflect.DeepEqual(newer, plain) {
			t.Errorf("%s with what a later version adds is read as %+v, %v; wanted %+v", name, newer, err, plain)
		}
	})
}

// Added is the name of what Newer and Restore add.
const Added = "nextMinor"

// Newer adds a member that nobody knows to every object of JSON in raw. What is in front of the first brace stays.
func Newer(t testing.TB, raw []byte) []byte {
	t.Helper()
	at := bytes.IndexByte(raw, '{')
	if at < 0 {
		t.Fatalf("%q holds no object", raw)
	}
	dec := json.NewDecoder(bytes.NewReader(raw[at:]))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(more(doc))
	if err != nil {
		t.Fatal(err)
	}
	return append(bytes.Clone(raw[:at]), out...)
}

func more(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			v[k] = more(item)
		}
		if !free(v) {
			v[Added] = map[string]any{"of": []any{"a later version", 2}}
		}
	case []any:
		for i := range v {
			v[i] = more(v[i])
		}
	}
	return v
}

// free tells a map of a program, whose keys are data, from an object: Fill gives each the key "key".
func free(m map[string]any) bool { return len(m) == 1 && m["key"] != nil }

// Dump writes the buckets of a database down: a line for each value, as bucket, key and value.
func Dump(t testing.TB, db *bbolt.DB) []byte {
	t.Helper()
	var b bytes.Buffer
	err := db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, bucket *bbolt.Bucket) error {
			fmt.Fprintf(&b, "%s %d\n", name, bucket.Sequence())
			return bucket.ForEach(func(k, v []byte) error {
				fmt.Fprintf(&b, "%s %s %s\n", name, strconv.QuoteToASCII(string(k)), quoted(v))
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// quoted leaves JSON legible.
func quoted(v []byte) string {
	if json.Valid(v) && !bytes.ContainsAny(v, "\n") {
		return string(v)
	}
	return strconv.QuoteToASCII(string(v))
}

// Restore makes a database of what Dump wrote, and adds a bucket that nobody knows. Alter, if any, makes another value of each.
func Restore(t testing.TB, path string, dump []byte, alter func(bucket, key string, value []byte) []byte) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for line := range strings.Lines(string(dump)) {
			if err := restore(tx, strings.TrimSuffix(line, "\n"), alter); err != nil {
				return fmt.Errorf("%s: %w", line, err)
			}
		}
		b, err := tx.CreateBucket([]byte(Added))
		if err != nil {
			return err
		}
		return b.Put([]byte("key"), []byte("value"))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func restore(tx *bbolt.Tx, line string, alter func(bucket, key string, value []byte) []byte) error {
	name, rest, _ := strings.Cut(line, " ")
	b, err := tx.CreateBucketIfNotExists([]byte(name))
	if err != nil {
		return err
	}
	if n, err := strconv.ParseUint(rest, 10, 64); err == nil {
		return b.SetSequence(n)
	}
	first, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return err
	}
	key, err := strconv.Unquote(first)
	if err != nil {
		return err
	}
	value := []byte(rest[len(first)+1:])
	if text, err := strconv.Unquote(string(value)); err == nil && !json.Valid([]byte(text)) {
		value = []byte(text)
	}
	if alter != nil {
		value = alter(name, key, value)
	}
	return b.Put([]byte(key), value)
}

// Fill gives every exported field of what v points to a value that is not its zero, the same each time: a field that is added shows in what was
// recorded. Maps get the key "key".
func Fill(v any) {
	n := 0
	fill(reflect.ValueOf(v).Elem(), "value", &n)
}

func fill(v reflect.Value, name string, n *int) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(1790000000, 0).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(strings.ToLower(name))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		*n++
		v.SetInt(int64(*n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		*n++
		v.SetUint(uint64(*n))
	case reflect.Float32, reflect.Float64:
		*n++
		v.SetFloat(float64(*n) + 0.5)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Interface:
		v.Set(reflect.ValueOf(name))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), name, n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), name, n)
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), name, n)
		}
	case reflect.Map:
		item := reflect.New(v.Type().Elem()).Elem()
		fill(item, name, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key").Convert(v.Type().Key()), item)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Tag.Get("json") != "-" {
				fill(v.Field(i), f.Name, n)
			}
		}
	}
}
