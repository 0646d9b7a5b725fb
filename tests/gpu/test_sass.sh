#!/bin/sh
# check_sass.sh must find what is planted in planted.cu: test_sass.sh CHECK_SASS PLANTED.o
set -eu
if ! "$(dirname "$1")/fetch_cuda_tools.sh" >/dev/null; then
	echo "skipped: cuobjdump and nvdisasm cannot be had"
	exit 77
fi
if output=$("$1" "$2"); then
	echo "$output"
	echo "the planted kernels passed"
	exit 1
fi
echo "$output"
echo "$output" | grep -q '^planted_spill.* sm_80 .*: SPILLS$'
echo "$output" | grep -q '^planted_spill.* sm_90a .*: SPILLS$'
echo "$output" | grep -q '^product_wide_planted.* sm_80 .*: NO TENSOR CORES: NO 16-BYTE LOADS$'
echo "$output" | grep -q '^product_wide_planted.* sm_90a .*: NO TENSOR CORES: NO 16-BYTE LOADS$'
echo "$output" | grep -q '^product_wide<planted_op, 8, 4> .* sm_80 .*: OVER 4 INSTRUCTIONS AN HMMA$'
echo "$output" | grep -q '^product_wide<planted_op, 8, 4> .* sm_90a .*: OVER 4 INSTRUCTIONS AN HMMA$'
echo "$output" | grep -q '^6 kernels, 4 of them matrix kernels: 6 are bad$'
