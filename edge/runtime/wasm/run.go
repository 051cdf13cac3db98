//go:build !lite

package wasm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

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
)

// ExitOverdue is the exit code of a module that ran longer than it may, that of timeout(1).
const ExitOverdue = 124

// Run runs the module of a container to its end, in the root of this process. The compiler of wazero is used where the
// processor has one, its interpreter elsewhere.
func Run(ctx context.Context, p *shim.Program) (int, error) {
	name, code, err := find(p.Spec.Argv)
	if err != nil {
		return 128, err
	}
	limit := p.Spec.Limits.MemoryBytes
	if limit <= 0 {
		limit = defaultMemory
	}
	pages := uint32(min(limit/page, 65536))
	if pages == 0 {
		return 128, fmt.Errorf("memory limit %d bytes: wanted at least a page of WebAssembly, %d", limit, page)
	}
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithMemoryLimitPages(pages).WithCloseOnContextDone(true))
	defer func() { _ = rt.Close(ctx) }() // the process ends after it
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, rt); err != nil {
		return 128, fmt.Errorf("prepare WASI: %w", err)
	}
	module, err := rt.CompileModule(ctx, code)
	if err != nil {
		return 128, fmt.Errorf("compile %s: %w", name, err)
	}
	if p.Spec.Wall > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.Spec.Wall)
		defer cancel()
	}
	if err := p.Ready(); err != nil {
		return 128, err
	}
	_, err = rt.InstantiateModule(ctx, module, configOf(p, name))
	return exitOf(ctx, err)
}

func configOf(p *shim.Program, name string) wazero.ModuleConfig {
	argv := append([]string{name}, p.Spec.Argv[min(1, len(p.Spec.Argv)):]...)
	cfg := wazero.NewModuleConfig().WithName("").WithArgs(argv...).WithStdout(p.Stdout).WithStderr(p.Stderr).
		WithSysWalltime().WithSysNanotime().WithSysNanosleep().WithRandSource(rand.Reader).
		// The process is in the container's root, mounts and their protection included: a link in it leads nowhere else.
		WithFSConfig(wazero.NewFSConfig().WithDirMount("/", "/"))
	if p.Stdin != nil {
		cfg = cfg.WithStdin(p.Stdin)
	}
	for _, e := range p.Spec.Env {
		if name, value, ok := strings.Cut(e, "="); ok {
			cfg = cfg.WithEnv(name, value)
		}
	}
	return cfg
}

// exitOf tells how a module ended.
func exitOf(ctx context.Context, err error) (int, error) {
	exit, exited := errors.AsType[*sys.ExitError](err)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return ExitOverdue, errors.New("it ran longer than it may")
	case exited:
		return int(exit.ExitCode()), nil
	case err != nil: // a trap, such as unreachable or memory out of bounds
		return 134, err
	}
	return 0, nil
}

// find reads the module: the first argument, or the only .wasm file in the root of an image that names none.
func find(argv []string) (string, []byte, error) {
	if len(argv) > 0 && argv[0] != "" {
		name := argv[0]
		if !strings.HasSuffix(name, ".wasm") {
			return "", nil, fmt.Errorf("command %q: wanted a file that ends in .wasm", name)
		}
		code, err := read(path.Join("/", name))
		return name, code, err
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

func read(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxModule {
		return nil, fmt.Errorf("%s: wanted a file of at most %d bytes", name, maxModule)
	}
	return os.ReadFile(name)
}
