package arch

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source is one parsed file that is not a test, by its path from the root.
type source struct {
	path string
	fset *token.FileSet
	file *ast.File
	text []byte
}

func sources(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var out []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		out = append(out, source{rel, fset, file, text})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("found %d files; the walk is broken", len(out))
	}
	return out
}

// forbiddenCalls maps a call to the reason; doors (cmd) and test programs may exit and print.
var forbiddenCalls = map[string]string{
	"time.Sleep":         "wait in a select with ctx (agent.Wait)",
	"os.Exit":            "exits belong in cmd",
	"log.Fatal":          "exits belong in cmd",
	"log.Fatalf":         "exits belong in cmd",
	"log.Printf":         "log through the injected slog.Logger",
	"log.Println":        "log through the injected slog.Logger",
	"slog.Info":          "log through the injected slog.Logger",
	"slog.Error":         "log through the injected slog.Logger",
	"slog.Warn":          "log through the injected slog.Logger",
	"fmt.Print":          "write to the writer you were given",
	"fmt.Printf":         "write to the writer you were given",
	"fmt.Println":        "write to the writer you were given",
	"context.Background": "take the caller's ctx",
	"context.TODO":       "take the caller's ctx",
}

// ownLife lists the few places that begin a context of their own, and whose life it is.
var ownLife = map[string]string{
	"cluster/telemetry/open.go": "a session of the store: queries end with it, not with who opened it",
	"edge/command/job.go":       "a command: it ends by its deadline, a cancel or the engine's stop",
	"edge/probe/collector.go":   "the probes of a configuration that is being replaced",
	"edge/probe/host.go":        "a few files of /proc, read once",
	"edge/probe/set.go":         "the slow probes of one configuration",
	"edge/runtimes.go":          "what watches containers: it ends when the runtime is closed",
}

func TestNobodyMakesAForbiddenCall(t *testing.T) {
	const maker = "install/release/main.go" // a door of a module of its own: in cmd its libraries would be ours
	for _, s := range sources(t) {
		if filepath.ToSlash(s.path) == maker || strings.HasPrefix(s.path, "cmd/") || strings.HasPrefix(s.path, "test/") || strings.HasPrefix(s.path, "docs/") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name := callName(call.Fun)
			if _, own := ownLife[filepath.ToSlash(s.path)]; own && name == "context.Background" {
				return true
			}
			if why, bad := forbiddenCalls[name]; bad {
				t.Errorf("%s: %s: %s", s.fset.Position(call.Pos()), name, why)
			}
			if name == "panic" {
				t.Errorf("%s: panic: return an error", s.fset.Position(call.Pos()))
			}
			return true
		})
	}
}

func callName(fun ast.Expr) string {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name + "." + f.Sel.Name
		}
	}
	return ""
}

// TestFlagsSayWhatTheyMean takes a call of three or more arguments whose name is that of a pflag method for one. pflag
// makes backquoted words of a usage the name of the value; and its own durations know no days.
func TestFlagsSayWhatTheyMean(t *testing.T) {
	method := regexp.MustCompile(`^(Var|(String|Bool|Int|Float64|Duration|StringSlice|StringArray|StringToString)(Var)?)P?$`)
	found := 0
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 3 {
				return true
			}
			name, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !method.MatchString(name.Sel.Name) {
				return true
			}
			found++
			if strings.HasPrefix(name.Sel.Name, "Duration") {
				t.Errorf("%s: %s: wanted configs.Duration, which takes days", s.fset.Position(call.Pos()), name.Sel.Name)
			}
			ast.Inspect(call.Args[len(call.Args)-1], func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if text, err := strconv.Unquote(lit.Value); err != nil || strings.Contains(text, "`") {
						t.Errorf("%s: usage %s: no backquotes", s.fset.Position(lit.Pos()), lit.Value)
					}
				}
				return true
			})
			return true
		})
	}
	if found < 40 {
		t.Errorf("found %d flags; the rule is broken", found)
	}
}

func TestNobodyRegistersInInit(t *testing.T) {
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: init: wire in code, in one function", s.fset.Position(f.Pos()))
			}
		}
	}
}

// imposed are functions whose parameters an interface of a library lays down.
var imposed = []string{"ExecInContainer", "AttachContainer"}

func TestFilesAndFunctionsStayReadable(t *testing.T) {
	const maxLines, maxFunc, maxParams = 300, 60, 5
	for _, s := range sources(t) {
		if strings.HasPrefix(filepath.Base(s.path), "zz_generated.") && ast.IsGenerated(s.file) {
			continue // nobody reads or writes it
		}
		if n := bytes.Count(s.text, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines; wanted at most %d: one idea per file", s.path, n, maxLines)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			lines := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
			if lines > maxFunc {
				t.Errorf("%s: %s has %d lines; wanted at most %d", s.path, f.Name.Name, lines, maxFunc)
			}
			if n := f.Type.Params.NumFields(); n > maxParams && !strings.HasPrefix(s.path, "test/") && !slices.Contains(imposed, f.Name.Name) {
				t.Errorf("%s: %s takes %d parameters; wanted at most %d", s.path, f.Name.Name, n, maxParams)
			}
		}
	}
}

func TestTopicStringsExistInOneFileAlone(t *testing.T) {
	for _, s := range sources(t) {
		if s.path == filepath.Join("mqtt", "topic.go") || strings.HasPrefix(s.path, "docs/") || strings.HasPrefix(s.path, "test/") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && strings.Contains(lit.Value, "skerry/v1/") {
				t.Errorf("%s: topic %s: build it with mqtt.Topics", s.fset.Position(lit.Pos()), lit.Value)
			}
			return true
		})
	}
}

func TestPackagesAreNounsWithOneDocComment(t *testing.T) {
	vague := []string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "base", "context", "errors", "log", "http", "sync", "os", "time", "net"}
	docs := map[string][]string{}
	for _, s := range sources(t) {
		dir := filepath.Dir(s.path)
		if slices.Contains(vague, s.file.Name.Name) {
			t.Errorf("%s: package %s: wanted a noun of its own", s.path, s.file.Name.Name)
		}
		if _, seen := docs[dir]; !seen {
			docs[dir] = nil
		}
		if s.file.Doc != nil {
			docs[dir] = append(docs[dir], s.path)
		}
	}
	for dir, files := range docs {
		if len(files) != 1 {
			t.Errorf("%s has %d package comments %v; wanted one", dir, len(files), files)
		}
	}
}

func TestNothingIsLeftForLater(t *testing.T) {
	words := []string{"TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"}
	for _, s := range sources(t) {
		for _, group := range s.file.Comments {
			for _, w := range words {
				if strings.Contains(group.Text(), w) {
					t.Errorf("%s: %s in a comment: finish it, or file an issue", s.fset.Position(group.Pos()), w)
				}
			}
		}
	}
}
