#!/bin/sh
# Builds llama.cpp for the CPU alone and for this machine's instructions: llama-batched-bench, which
# bench/peers/batched.py runs beside this program; llama-bench, whose tests `trimtab bench` has; llama-quantize, for the
# files of bench/peers/make_types.sh; and of bench/peers llama-steering, for bench/peers/steering.py, and
# llama-perplexity-of-ids, for scripts/measure/compare_perplexity.py.
# Into build-llama.cpp/, which git ignores. Interrupted, it goes on where it was.
set -eu

say() { echo "build_llama_cpp: $*" >&2; }
fail() {
	say "$*"
	exit 1
}

cd "$(dirname "$0")/../.."
out=build-llama.cpp
programs="llama-batched-bench llama-bench llama-quantize"
ours="llama-steering llama-perplexity-of-ids"
missing=
for program in $programs $ours; do
	[ -x "$out/$program" ] || missing=$program
done
if [ -z "$missing" ]; then
	say "$programs $ours are in $out already"
	exit 0
fi
# The pinned version's code for AMX uses tiles that it has not configured, which is an illegal instruction.
flags=
grep -q amx_tile /proc/cpuinfo && flags="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
source=$(scripts/setup/fetch_llama_cpp.sh)
mkdir -p "$out"
say "building (about 20 minutes on 2 cores)"
cmake -S "$source" -B "$out/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON \
	-DGGML_CPU=ON -DGGML_BLAS=OFF -DGGML_CUDA=OFF -DGGML_VULKAN=OFF -DLLAMA_BUILD_TESTS=OFF \
	-DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_CURL=OFF \
	-DLLAMA_OPENSSL=OFF -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags" >"$out/configure.log" 2>&1 ||
	fail "cmake failed: see $out/configure.log"
nice -n 10 cmake --build "$out/build" -j "${JOBS:-$(nproc)}" --target $programs >"$out/build.log" 2>&1 ||
	fail "the build failed: see $out/build.log"
for program in $programs; do
	cp "$out/build/bin/$program" "$out/"
done
built=$out/build
# build_ours SOURCE PROGRAM
build_ours() {
	cc -O2 -std=c11 -D_POSIX_C_SOURCE=200809L -I"$source/include" -I"$source/ggml/include" "bench/peers/$1" \
		"$built/src/libllama.a" "$built/ggml/src/libggml.a" "$built/ggml/src/libggml-cpu.a" \
		"$built/ggml/src/libggml-base.a" -lstdc++ -fopenmp -lm -lpthread -ldl -o "$out/$2" ||
		fail "bench/peers/$1 could not be built"
}
build_ours llama_steering.c llama-steering
build_ours llama_perplexity.c llama-perplexity-of-ids
say "$programs $ours are ready in $out"
