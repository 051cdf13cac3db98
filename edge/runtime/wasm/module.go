package wasm

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/skerry-edge/skerry/edge/runtime/shim"
)

// The bounds of a module: of its file, of its memory when the workload has no limit, and of a page of memory.
const (
	maxModule     = 64 << 20
	defaultMemory = 64 << 20
	page          = 64 << 10
	maxPages      = 65536
)

// Exit codes that a module did not choose: it could not be run, it trapped, or it ran longer than it may, as timeout(1) has it.
const (
	ExitBroken  = 128
	ExitTrap    = 134
	ExitOverdue = 124
)

// Main is the process of a module from its beginning to its end; it returns the exit code. A supervisor has started it in the
// root of a container, confined, and talks with it over the descriptors of package shim.
func Main(ctx context.Context) int {
	words := json.NewEncoder(os.NewFile(shim.WordFD, "words"))
	var task shim.Module
	err := json.NewDecoder(os.NewFile(shim.TaskFD, "task")).Decode(&task)
	if err != nil {
		err = fmt.Errorf("read what to run: %w", err)
	}
	exit := ExitBroken
	if err == nil {
		exit, err = run(ctx, &task, func() error { return words.Encode(shim.Word{Ready: true}) })
	}
	if err != nil {
		_ = words.Encode(shim.Word{Message: strings.ReplaceAll(err.Error(), "\n", "; ")}) // a dead supervisor has ended this process too
	}
	return exit
}

// run runs a module to its end, or for as long as it may. The compiler of wazero is used where the processor has one, its
// interpreter elsewhere.
func run(ctx context.Context, task *shim.Module, ready func() error) (int, error) {
	name, code, err := find(task.Argv)
	if err != nil {
		return ExitBroken, err
	}
	limit := task.Memory
	if limit <= 0 {
		limit = defaultMemory
	}
	pages := uint32(min(limit/page, maxPages))
	if pages == 0 {
		return ExitBroken, fmt.Errorf("memory limit %d bytes: wanted at least a page of WebAssembly, %d", limit, page)
	}
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithMemoryLimitPages(pages))
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, rt); err != nil {
		return ExitBroken, fmt.Errorf("prepare WASI: %w", err)
	}
	module, err := rt.CompileModule(ctx, code)
	if err != nil {
		return ExitBroken, fmt.Errorf("compile %s: %w", name, err)
	}
	debug.FreeOSMemory() // the compiler has left much
	if err := ready(); err != nil {
		return ExitBroken, err
	}
	var late <-chan time.Time
	if task.Wall > 0 {
		late = time.After(task.Wall)
	}
	type outcome struct {
		exit int
		err  error
	}
	ended := make(chan outcome, 1)
	go func() { // not waited for when it is late: a module cannot be interrupted, and ends with the process
		_, err := rt.InstantiateModule(ctx, module, configOf(task, name))
		exit, err := exitOf(err)
		ended <- outcome{exit, err}
	}()
	select {
	case o := <-ended:
		return o.exit, o.err
	case <-late:
		return ExitOverdue, fmt.Errorf("it ran longer than the %s that a module may", task.Wall)
	}
}

func configOf(task *shim.Module, name string) wazero.ModuleConfig {
	argv := append([]string{name}, task.Argv[min(1, len(task.Argv)):]...)
	cfg := wazero.NewModuleConfig().WithName("").WithArgs(argv...).WithStdin(os.Stdin).WithStdout(os.Stdout).WithStderr(os.Stderr).
		WithSysWalltime().WithSysNanotime().WithSysNanosleep().WithRandSource(rand.Reader).
		// The process is in the container's root, mounts and their protection included: a link in it leads nowhere else.
		WithFSConfig(wazero.NewFSConfig().WithDirMount("/", "/"))
	for _, e := range task.Env {
		if name, value, ok := strings.Cut(e, "="); ok {
			cfg = cfg.WithEnv(name, value)
		}
	}
	return cfg
}

// exitOf tells how a module ended.
func exitOf(err error) (int, error) {
	exit, exited := errors.AsType[*sys.ExitError](err)
	switch {
	case exited:
		return int(exit.ExitCode()), nil
	case err != nil: // a trap, such as unreachable or memory out of bounds
		return ExitTrap, err
	}
	return 0, nil
}

// find reads the module: the first argument, or the only .wasm file in the root of an image that names none.
func find(argv []string) (string, []byte, error) {
	if len(argv) > 0 && argv[0] != "" {
		code, err := read(path.Join("/", argv[0]))
		return argv[0], code, err
	}
	names, err := fs.Glob(os.DirFS("/"), "*.wasm")
	if err != nil {
		return "", nil, err
	}
	if len(names) != 1 {
		return "", nil, fmt.Errorf("no command, and %d .wasm files in the root of the image; wanted one", len(names))
	}
	code, err := read("/" + names[0])
	return "/" + names[0], code, err
}

// magic begins a module.
const magic = "\x00asm"

func read(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may be a pipe that nobody writes to
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxModule {
		return nil, fmt.Errorf("%s: wanted a file of at most %d bytes", name, maxModule)
	}
	code, err := io.ReadAll(io.LimitReader(f, maxModule))
	if err == nil && !strings.HasPrefix(string(code[:min(len(magic), len(code))]), magic) {
		err = fmt.Errorf("%s: wanted a WebAssembly module", name)
	}
	return code, err
}
