// Package wasm runs WebAssembly modules (WASI preview 1) as containers. A module runs in its supervisor, which is in a root of
// its own and has given up all rights: what the sandbox of WebAssembly does not hold, the kernel does.
package wasm
