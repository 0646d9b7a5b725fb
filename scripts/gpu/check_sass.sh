#!/bin/sh
# Reads the machine code of CUDA objects that compile_cuda.sh made, and prints a table of their kernels. Fails when a
# kernel spills registers, or when a matrix product or attention has no tensor-core instruction (HMMA) or no access of
# 16 bytes a thread to global memory (LDG.128, LDGSTS.128, bulk copies: UBLKCP).
#   check_sass.sh OBJECT.o...
set -eu
if [ $# -eq 0 ]; then
	echo "usage: check_sass.sh OBJECT.o..." >&2
	exit 2
fi
folder=$(dirname "$0")
tools=$("$folder/fetch_cuda_tools.sh") || tools=
[ -n "$tools" ] || echo "check_sass: only spills are looked at, since cuobjdump and nvdisasm cannot be had"

for object in "$@"; do
	# ptxas names a kernel and its target, then gives its stack, spills and registers, a line each.
	cat "$object.log"
	[ -z "$tools" ] || PATH="$tools:$PATH" cuobjdump -sass "$object"
done | {
	if command -v c++filt >/dev/null; then c++filt; else cat; fi
} | awk -v disassembled="${tools:+1}" '
	/Compiling entry function/ {
		split($0, part, "\047")
		kernel = part[2] " " part[4]
		if (!(kernel in stores)) {
			kernels[n++] = kernel
			stores[kernel] = loads[kernel] = registers[kernel] = "?"
		}
	}
	/bytes spill stores/ { stores[kernel] = $5; loads[kernel] = $9 }
	/Used [0-9]+ registers/ { match($0, /Used [0-9]+/); registers[kernel] = substr($0, RSTART + 5, RLENGTH - 5) }
	/^[ \t]*code for sm_|^arch = sm_/ { target = $3; in_code = 0 }
	/^[ \t]*Function : / { sub(/^[ \t]*Function : /, ""); code = $0 " " target; seen[code] = 1 }
	/ HMMA\./ { products[code]++ }
	/ LDG\.[A-Z0-9.]*128/ { wide_loads[code]++ }
	/ LDGSTS\.[A-Z0-9.]*128/ { copies[code]++ }
	/ UBLKCP/ { bulk[code]++ }
	END {
		printf "%-60s %-7s %9s %7s %5s %7s %10s %6s\n", "kernel", "target", "registers", "spilled", "HMMA",
			"LDG.128", "LDGSTS.128", "bulk"
		for (i = 0; i < n; i++) {
			kernel = kernels[i]
			match(kernel, / [^ ]*$/)
			name = substr(kernel, 1, RSTART - 1)
			target = substr(kernel, RSTART + 1)
			sub(/^void /, "", name)
			sub(/\(.*\)$/, "", name)
			problem = ""
			if (stores[kernel] != "0" || loads[kernel] != "0")
				problem = ": SPILLS"
			if (disassembled && !seen[kernel])
				problem = problem ": NOT IN THE OBJECT"
			if (disassembled && name ~ /^(product_narrow|product_wide|attention_kernel)/) {
				matrix++
				if (!products[kernel])
					problem = problem ": NO TENSOR CORES"
				if (!(wide_loads[kernel] + copies[kernel] + bulk[kernel]))
					problem = problem ": NO 16-BYTE LOADS"
			}
			printf "%-60s %-7s %9s %7s %5d %7d %10d %6d%s\n", name, target, registers[kernel],
				stores[kernel] + loads[kernel], products[kernel], wide_loads[kernel], copies[kernel],
				bulk[kernel], problem
			bad += problem != ""
		}
		printf "%d kernels, %d of them matrix kernels: %s\n", n, matrix, bad ? bad " are bad" : "all good"
		exit bad > 0 || n == 0
	}'
