// Package wasm runs WebAssembly modules (WASI preview 1) as containers. A module has a process of its own, which is a program
// inside the container like any other: what the sandbox of WebAssembly does not hold, the kernel does.
package wasm
