#!/bin/sh
# Builds the CPU's kernels and their tests for 64-bit ARM, runs them under qemu (with and without the integer products
# of ARMv8.2), and compares what they give with this machine's, bit for bit. Nothing is timed.
#
#     arm.sh FOLDER [JOBS]
set -eu

folder=${1:?usage: arm.sh FOLDER [JOBS]}
jobs=${2:-$(nproc)}
say() { echo "arm: $*"; }

build() {
	cmake -S tests/arm -B "$folder/$1" -DCMAKE_BUILD_TYPE=Release $2 >"$folder/$1.log" 2>&1 &&
		cmake --build "$folder/$1" -j "$jobs" >>"$folder/$1.log" 2>&1 || {
		tail -n 20 "$folder/$1.log" >&2
		say "the build for $1 failed"
		exit 1
	}
}
digests() { grep "^digest"; }

mkdir -p "$folder"
build native ""
build arm "-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc
	-DCMAKE_EXE_LINKER_FLAGS=-static"
failed=0
"$folder/native/digest" | digests >"$folder/native.txt"
for processor in cortex-a76 cortex-a72; do
	# The latter has no sdot, which q8 alone takes.
	suites="$folder/arm/kernels_q8 $folder/arm/digest"
	[ $processor = cortex-a72 ] || suites="$(ls -d "$folder"/arm/kernels_*[!.]) $folder/arm/digest"
	for suite in $suites; do
		name=$processor-${suite##*/}
		if qemu-aarch64 -cpu $processor "$suite" >"$folder/$name.txt"; then
			say "$processor, ${suite##*/}: $(tail -n 1 "$folder/$name.txt")"
		else
			cat "$folder/$name.txt"
			say "$processor, ${suite##*/}: failed"
			failed=1
		fi
	done
	digests <"$folder/$processor-digest.txt" | diff "$folder/native.txt" - || {
		say "$processor gives other bits than this machine"
		failed=1
	}
done
[ $failed = 0 ] && say "$(wc -l <"$folder/native.txt") digests equal this machine's; speed is not measured under qemu"
exit $failed
