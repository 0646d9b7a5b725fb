#!/bin/sh
# check_sass.sh must find what is planted in planted.cu: test_sass.sh CHECK_SASS PLANTED.o TARGET...
set -eu
if ! "$(dirname "$1")/fetch_cuda_tools.sh" >/dev/null; then
	echo "skipped: cuobjdump and nvdisasm cannot be had"
	exit 77
fi
check=$1 planted=$2
shift 2
if output=$("$check" "$planted"); then
	echo "$output"
	echo "the planted kernels passed"
	exit 1
fi
echo "$output"
for target in "$@"; do
	echo "$output" | grep -q "^planted_spill.* $target .*: SPILLS\$"
	echo "$output" | grep -q "^product_wide_planted.* $target .*: NO TENSOR CORES: NO 16-BYTE LOADS\$"
	echo "$output" | grep -q "^product_wide<planted_op, 8, 4> .* $target .*: OVER 4 INSTRUCTIONS AN HMMA\$"
done
echo "$output" | grep -q "^$((3 * $#)) kernels, $((2 * $#)) of them matrix kernels: $((3 * $#)) are bad\$"
