#!/bin/sh
# Runs every fuzz target of the module for the time given (default 30s), as many at a time as there are processors, each
# with one worker.
set -eu

# one fuzzes a target: PACKAGE NAME TIME. The go command sometimes ends a worker's last call with "context deadline
# exceeded" when its time is over (golang/go#48591): no input failed then, and it is tried once more.
one() {
	for try in 1 2; do
		echo "fuzz $1 $2 $3"
		if out=$(go test -run '^$' -parallel 1 -fuzzminimizetime 1x -fuzz "^$2\$" -fuzztime "$3" "$1" 2>&1); then
			return 0
		fi
		case $out in
		*'Failing input'*) break ;;
		*'context deadline exceeded'*) [ "$try" = 2 ] || continue ;;
		esac
		break
	done
	printf '%s\n' "$out" >&2
	return 1
}

if [ "${1:-}" = one ]; then
	one "$2" "$3" "$4" || exit 255 # so that xargs begins no more
	exit 0
fi
fuzztime="${1:-30s}"
targets=$(mktemp)
trap 'rm -f "$targets"' EXIT INT TERM
grep -rn --include='*_test.go' '^func Fuzz' . | sed -n 's#^\(\./.*\)/[^/]*_test\.go:[0-9]*:func \(Fuzz[A-Za-z0-9_]*\)(.*#\1 \2#p' | sort >"$targets"
[ -s "$targets" ] || { echo "no fuzz target found" >&2; exit 1; }
sed "s/\$/ $fuzztime/" "$targets" | xargs -P "$(nproc)" -L 1 "$0" one
echo "fuzzed $(wc -l <"$targets") targets for $fuzztime each"
