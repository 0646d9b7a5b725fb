#!/bin/sh
# Reads the machine code of CUDA objects that compile_cuda.sh made, and prints a table of their kernels. Fails when a
# kernel spills registers, or when a matrix product or attention has no tensor-core instruction (HMMA) or no access of
# 16 bytes a thread to global memory (LDG.128, LDGSTS.128, bulk copies: UBLKCP), or when a product is over its budget:
# instructions an HMMA in its steady loop, which multiplies and copies, and registers, which decide how many blocks a
# multiprocessor has; or when a kernel that is bound by its loads has fewer of them under way than it must ("ahead": the
# most loads from global memory after which nothing has read the result of any).
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
	/^[ \t]*Function : / {
		sub(/^[ \t]*Function : /, "")
		code = $0 " " target
		seen[code] = 1
		n_lines = 0
		split("", line_of)
		split("", products_to)
		split("", copies_to)
		split("", under_way)
		n_under_way = 0
	}
	# Of each instruction its number, and the HMMA and LDGSTS before it; a branch back ends a loop.
	match($0, /^[ \t]*\/\*[0-9a-f]+\*\//) {
		at = substr($0, RSTART, RLENGTH)
		gsub(/[^0-9a-f]/, "", at)
		sub(/^0+/, "", at)
		line_of[at] = n_lines++
		products_to[n_lines - 1] = products[code] + 0
		copies_to[n_lines - 1] = copies[code] + 0
		count_ahead()
		if (match($0, / BRA [^;]*0x[0-9a-f]+/)) {
			at = substr($0, RSTART, RLENGTH)
			sub(/^.*0x0*/, "", at)
			if (at in line_of) {
				first = line_of[at]
				inside = products[code] - products_to[first]
				if (inside && copies[code] > copies_to[first])
					loop_ends((n_lines - first) / inside)
			}
		}
	}
	/ HMMA\./ { products[code]++ }
	/ LDG\.[A-Z0-9.]*128/ { wide_loads[code]++ }
	/ LDGSTS\.[A-Z0-9.]*128/ { copies[code]++ }
	/ UBLKCP/ { bulk[code]++ }
	# A load is under way until an instruction has its register among its operands; loads arrive in order.
	function count_ahead(  text, register) {
		text = $0
		sub(/;.*/, "", text)
		sub(/^[^A-Z@]*(@!?U?P[0-9T]+ )?[A-Z0-9_.]+ */, "", text)
		register = text
		sub(/[^R0-9].*/, "", register)
		if ($0 !~ / ST[A-Z]*[. ]/)
			sub(/^[^,]*,/, "", text)
		while (n_under_way && match(text, /R[0-9]+/)) {
			if (substr(text, RSTART, RLENGTH) in under_way) {
				split("", under_way)
				n_under_way = 0
			}
			text = substr(text, RSTART + RLENGTH)
		}
		if ($0 ~ / LDG\./) {
			n_under_way += !(register in under_way)
			under_way[register] = 1
			if (n_under_way > ahead[code])
				ahead[code] = n_under_way
		}
	}
	# A product of any op: instructions an HMMA, and registers for as many blocks as shared memory has room for.
	function budget(shape, each, most_registers) {
		most_each[shape] = each
		most_of[shape] = most_registers
	}
	BEGIN {
		budget("product_narrow<1, 1, 4>", 12, 64)
		budget("product_narrow<2, 4, 3>", 6, 128)
		budget("product_narrow<2, 8, 3>", 5, 255)
		budget("product_narrow<4, 8, 2>", 6, 255)
		budget("product_narrow<1, 8, 2>", 8, 128)
		budget("product_wide<4, 4>", 5, 128)
		budget("product_wide<8, 4>", 4, 255)
		budget("product_cluster<14, 4, 4>", 8, 128)
		budget("product_cluster<14, 8, 4>", 5, 128)
		budget("product_cluster<8, 16, 4>", 4, 128)
		# of quantised weights: of the loops, one for each type, the shortest
		budget("product_narrow_quants<1, 1, 4>", 42, 85)
		budget("product_narrow_quants<2, 4, 2>", 13, 128)
		budget("product_narrow_quants<2, 8, 2>", 8, 255)
		budget("product_wide_quants<8, 4>", 6, 255)
		budget("product_cluster_quants<8, 4, 4>", 16, 128)
		budget("product_cluster_quants<8, 8, 4>", 9, 128)
		budget("product_cluster_quants<8, 16, 4>", 6, 255)
		least_ahead["sample_largest_kernel"] = least_ahead["sample_sums_kernel"] = 8
		least_ahead["sample_choose_kernel"] = 8
	}
	# The steady loop is the innermost: an outer one has more instructions an HMMA.
	function loop_ends(each) {
		if (!(code in steady) || each < steady[code])
			steady[code] = each
	}
	function over_budget(shape, kernel) {
		sub(/<[a-z_]+, /, "<", shape)
		if (!(shape in most_each))
			return ""
		if (!(kernel in steady))
			return ": NO STEADY LOOP"
		over = steady[kernel] > most_each[shape] ? ": OVER " most_each[shape] " INSTRUCTIONS AN HMMA" : ""
		return over (registers[kernel] + 0 > most_of[shape] ? ": OVER " most_of[shape] " REGISTERS" : "")
	}
	END {
		printf "%-60s %-7s %9s %7s %5s %7s %10s %6s %8s %5s\n", "kernel", "target", "registers", "spilled",
			"HMMA", "LDG.128", "LDGSTS.128", "bulk", "an HMMA", "ahead"
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
			# kernels of clusters are empty where there are none
			if (disassembled && (name ~ /^(product_narrow|product_wide|attention_kernel)/ ||
						    (name ~ /^product_cluster/ && target != "sm_80"))) {
				matrix++
				if (!products[kernel])
					problem = problem ": NO TENSOR CORES"
				if (!(wide_loads[kernel] + copies[kernel] + bulk[kernel]))
					problem = problem ": NO 16-BYTE LOADS"
				problem = problem over_budget(name, kernel)
			}
			if (disassembled && ahead[kernel] + 0 < least_ahead[name] + 0)
				problem = problem ": FEWER THAN " least_ahead[name] " LOADS AHEAD"
			each = kernel in steady ? sprintf("%.1f", steady[kernel]) : "-"
			printf "%-60s %-7s %9s %7s %5d %7d %10d %6d %8s %5d%s\n", name, target, registers[kernel],
				stores[kernel] + loads[kernel], products[kernel], wide_loads[kernel], copies[kernel],
				bulk[kernel], each, ahead[kernel], problem
			bad += problem != ""
		}
		printf "%d kernels, %d of them matrix kernels: %s\n", n, matrix, bad ? bad " are bad" : "all good"
		exit bad > 0 || n == 0
	}'
