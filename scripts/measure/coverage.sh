#!/bin/bash
# usage: scripts/measure/coverage.sh BUILD
# Branch coverage of the parsers, file by file and in total, from the tests of BUILD (make coverage builds it) that are
# run here. It is clang's own: each outcome of each condition in the source, of && and || too, counted once however a
# compiler lays it out. Least, in percent of the total: 90.
set -euo pipefail

build=$1
least=90
suites='activation_file|api_body|batch_input|chat(_span)?|config|faults|file|gguf|jinja|policy|safetensors'
suites="$suites|tokenizer(_families|_files)?|weights"
tests="^(fuzz_.*|test_($suites))\$"
files=(base/file.c base/json.c base/memory.c base/utf8.c weights/config.c weights/config_gguf.c
	weights/config_hf.c weights/gguf.c weights/gguf_values.c weights/safetensors.c weights/tensors.c
	controller/train/activation_file.c controller/policy/policy_file.c controller/policy/layer_list.c
	runtime/openai/request_body.c
	runtime/openai/policy_names.c runtime/batch/ids.c base/lines.c runtime/batch/sweep.c
	runtime/text/chat.c runtime/text/unicode.c runtime/text/jinja/*.c runtime/text/tokenizer/*.c)

rm -rf "$build/profiles"
export LLVM_PROFILE_FILE=$PWD/$build/profiles/%p.profraw
ctest --test-dir "$build" -R "$tests" --output-on-failure >"$build/coverage.log" ||
	{ tail -n 40 "$build/coverage.log"; exit 1; }
llvm-profdata merge -sparse "$build"/profiles/*.profraw -o "$build/coverage.profdata"
programs=()
for program in "$build"/tests/test_* "$build"/tests/fuzz/fuzz_*; do
	[ -x "$program" ] && [ -f "$program" ] && programs+=(${programs:+-object} "$program")
done
llvm-cov export -summary-only -instr-profile="$build/coverage.profdata" "${programs[@]}" >"$build/coverage.json"
# By normal names, since ccache may have passed others to the compiler.
python3 - "$build/coverage.json" "$least" "${files[@]}" <<'EOF'
import json
import os
import sys

path, least, wanted = sys.argv[1], float(sys.argv[2]), set(sys.argv[3:])
covered = count = 0
print(f"{'branches':>9} {'taken':>7}        ")
for file in json.load(open(path))["data"][0]["files"]:
    name = os.path.relpath(file["filename"])
    if name not in wanted:
        continue
    wanted.remove(name)
    branches = file["summary"]["branches"]
    covered += branches["covered"]
    count += branches["count"]
    print(f"{branches['count']:9} {branches['covered']:7} {branches['percent']:6.1f}%  {name}")
print(f"{count:9} {covered:7} {100 * covered / count:6.1f}%  in total")
if wanted:
    sys.exit(f"coverage: nothing of {' '.join(sorted(wanted))}")
if 100 * covered < least * count:
    sys.exit(f"coverage: less than {least:g}%")
EOF
