#!/bin/sh
# Runs every fuzz target of the module for the time given (default 30s), one after the other.
set -eu
fuzztime="${1:-30s}"
ran=0
for pkg in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		echo "fuzz $pkg $target $fuzztime"
		go test -run '^$' -fuzzminimizetime 1x -fuzz "^$target\$" -fuzztime "$fuzztime" "$pkg"
		ran=$((ran + 1))
	done
done
[ "$ran" -gt 0 ] || { echo "no fuzz target found" >&2; exit 1; }
echo "fuzzed $ran targets for $fuzztime each"
