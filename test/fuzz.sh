#!/bin/sh
# Runs every fuzz target of the module for the time given (default 30s), as many at a time as there are processors, each
# with one worker.
set -eu
fuzztime="${1:-30s}"
export fuzztime
targets=$(mktemp)
trap 'rm -f "$targets"' EXIT INT TERM
grep -rn --include='*_test.go' '^func Fuzz' . | sed -n 's#^\(\./.*\)/[^/]*_test\.go:[0-9]*:func \(Fuzz[A-Za-z0-9_]*\)(.*#\1 \2#p' | sort >"$targets"
[ -s "$targets" ] || { echo "no fuzz target found" >&2; exit 1; }
# shellcheck disable=SC2016 # the inner shell expands
xargs -P "$(nproc)" -L 1 sh -c 'echo "fuzz $1 $2 $fuzztime"
	out=$(go test -run "^$" -parallel 1 -fuzzminimizetime 1x -fuzz "^$2\$" -fuzztime "$fuzztime" "$1" 2>&1) ||
	{ printf "%s\n" "$out" >&2; exit 255; }' sh <"$targets"
echo "fuzzed $(wc -l <"$targets") targets for $fuzztime each"
