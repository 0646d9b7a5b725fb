#!/bin/sh
# Compiles CUDA sources for sm_80 and sm_90a and fails on any register spill; skips, saying so, where there is no nvcc.
#   check_ptxas.sh FILE.cu...
set -eu
cd "$(dirname "$0")/.."
if [ $# -eq 0 ]; then
	echo "usage: check_ptxas.sh FILE.cu..." >&2
	exit 2
fi
if ! command -v nvcc >/dev/null; then
	echo "check_ptxas: skipped, there is no nvcc"
	exit 0
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
failed=0
for source in "$@"; do
	for target in compute_80,code=sm_80 compute_90a,code=sm_90a; do
		if ! nvcc -std=c++17 -fmad=false -Werror all-warnings -gencode "arch=$target" -I. -Ibase -Xptxas -v -c "$source" \
			-o "$out/object.o" >"$out/log" 2>&1; then
			cat "$out/log"
			echo "$source: $target: does not compile"
			failed=1
			continue
		fi
		# ptxas names a kernel and then gives its stack, spills and registers, a line each.
		awk -v source="$source" -v target="${target#*=}" '
			/Compiling entry function/ { split($0, part, "\047"); kernel = part[2] }
			/bytes spill stores/ { stack = $1; stores = $5; loads = $9 }
			/Used [0-9]+ registers/ {
				match($0, /Used [0-9]+/)
				registers = substr($0, RSTART + 5, RLENGTH - 5)
				bad = stores + loads > 0
				printf "%s: %s: %s: %d registers, %d bytes of stack, %d + %d bytes spilled%s\n", source, target,
					kernel, registers, stack, stores, loads, bad ? ": SPILLS" : ""
				failed += bad
				n++
			}
			END { exit failed > 0 }' "$out/log" || failed=1
	done
done
exit $failed
