#!/bin/sh
# Builds skerry-edge for the seven targets, lite and full, stripped, and compares both on linux/amd64 with their budgets.
# The budget (8 MiB) is not met: docs/adr/0007 says where the bytes are. Beyond the ceiling the build fails, so that
# the distance only shrinks.
set -eu
budget_mib=8
ceiling_kib=9810 # docs/adr/0007
full_mib=18
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT INT TERM
printf '%-22s %10s %10s\n' target 'lite MiB' 'full MiB'
build() { # arch, tags, file, environment …
	arch=$1 tags=$2 file=$3
	shift 3
	env CGO_ENABLED=0 GOOS=linux GOARCH="$arch" "$@" go build -trimpath -gcflags=all=-l "-gcflags=crypto/internal/fips140/edwards25519/...=" -ldflags '-s -w -funcalign=8' -tags "$tags" -o "$file" ./cmd/skerry-edge
}
# smoke runs a binary under qemu's user mode: a build that starts is worth more than one that links.
smoke() { # arch, file
	case $1 in
	amd64) "$2" version ;;
	386) # not every 64-bit kernel runs 32-bit programs, and qemu-i386 does not give Go its thread-local storage
		"$2" version || { [ $? = 126 ] && echo "skerry-edge for 386 links; this kernel cannot start it" >&2; } ;;
	arm64) qemu-aarch64-static "$2" version ;;
	arm) qemu-arm-static "$2" version ;;
	riscv64) qemu-riscv64-static "$2" version ;;
	mipsle) qemu-mipsel-static "$2" version ;;
	esac >/dev/null || { echo "skerry-edge for $1 does not start" >&2; exit 1; }
}
mib() { awk -v b="$(stat -c %s "$1")" 'BEGIN { printf "%.2f", b / 1048576 }'; }
for target in amd64 arm64 arm:GOARM=7 arm:GOARM=6 riscv64 mipsle:GOMIPS=softfloat 386; do
	arch=${target%%:*}
	var=${target#*:}
	[ "$var" = "$arch" ] && var=SKERRY_NONE=
	build "$arch" nethttpomithttp2,lite "$out/lite" "$var"
	build "$arch" nethttpomithttp2,grpcnotrace "$out/full" "$var"
	smoke "$arch" "$out/lite"
	smoke "$arch" "$out/full"
	printf '%-22s %10s %10s\n' "linux/$target" "$(mib "$out/lite")" "$(mib "$out/full")"
	if [ "$target" = amd64 ]; then
		lite=$(stat -c %s "$out/lite")
		full=$(stat -c %s "$out/full")
	fi
done
if [ "$lite" -gt $((ceiling_kib * 1024)) ]; then
	echo "skerry-edge lite for linux/amd64 has $lite bytes; wanted at most $((ceiling_kib * 1024))" >&2
	exit 1
fi
if [ "$lite" -gt $((budget_mib * 1048576)) ]; then
	echo "budget: lite linux/amd64 at most $budget_mib MiB: MISSED by $(((lite - budget_mib * 1048576) / 1024)) KiB"
else
	echo "budget: lite linux/amd64 at most $budget_mib MiB: held"
fi
if [ "$full" -gt $((full_mib * 1048576)) ]; then
	echo "skerry-edge full for linux/amd64 has $full bytes; wanted at most $full_mib MiB" >&2
	exit 1
fi
echo "budget: full linux/amd64 at most $full_mib MiB: held"
