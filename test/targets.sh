#!/bin/sh
# Builds skerry-edge for the seven targets, lite and full, stripped, into bin/targets/TARGET/, where TARGET is GOARCH or, for a
# variant of it, such as arm-6. Prints "TARGET QEMU" for each; QEMU is the emulator that runs it here, or "-" for none.
set -eu
build() { # target, what GOARCH needs beside
	target=$1
	shift
	mkdir -p "bin/targets/$target"
	for kind in edge=lite edge-full=grpcnotrace; do
		env CGO_ENABLED=0 GOOS=linux GOARCH="${target%%-*}" "$@" go build -trimpath -gcflags=all=-l \
			"-gcflags=crypto/internal/fips140/edwards25519/...=" -ldflags '-s -w -funcalign=4' -tags "nethttpomithttp2,${kind#*=}" \
			-o "bin/targets/$target/skerry-${kind%=*}" ./cmd/skerry-edge
	done
}
while read -r target qemu env; do
	build "$target" "$env"
	echo "$target $qemu"
done <<END
amd64 - GOAMD64=v1
arm64 qemu-aarch64-static GOARM64=v8.0
arm-7 qemu-arm-static GOARM=7
arm-6 qemu-arm-static GOARM=6
riscv64 qemu-riscv64-static GORISCV64=rva20u64
mipsle qemu-mipsel-static GOMIPS=softfloat
386 - GO386=sse2
END
