#!/bin/bash
# usage: scripts/measure/fuzz.sh BUILD SECONDS [TARGET...]
# Runs the fuzz targets of BUILD (make fuzz builds it), each for SECONDS, from the inputs of tests/fuzz/corpus. New
# inputs are kept in BUILD/corpus/TARGET; a crash, a second of processor time for one input or a sanitizer's report
# ends it with the input's name. Without a TARGET: all.
set -euo pipefail

build=$1
seconds=$2
shift 2
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(gguf safetensors config tokenizer template policy batch activations http entry note
	store tiles job ring)

# A target's dictionary: the words in its parsers' string literals, which they compare text with.
declare -A sources=(
	[gguf]='weights/gguf.c weights/config_gguf.c weights/model.c runtime/text/tokenizer/tokenizer_gguf.c
		runtime/text/tokenizer/pretokenize_named.c'
	[safetensors]='weights/safetensors.c weights/model.c weights/tensors.c weights/fp8.c'
	[config]='weights/config_hf.c'
	[tokenizer]='runtime/text/tokenizer/tokenizer_json.c runtime/text/tokenizer/tokenizer_json_steps.c
		runtime/text/tokenizer/pattern.c runtime/text/chat.c'
	[template]='runtime/text/jinja/*.c'
	[policy]='controller/policy/*.c weights/safetensors.c weights/gguf.c'
	[batch]='runtime/openai/request_body.c runtime/openai/policy_names.c runtime/batch/row.c runtime/batch/sweep.c'
	[activations]='controller/train/activation_file.c'
	[http]='runtime/serve/scan.c runtime/serve/http.c'
	[entry]='controller/govern/log.c controller/govern/entry_chain.c'
	[note]='controller/govern/note.c'
	[store]='controller/govern/schema.c controller/govern/store.c'
	[job]='runtime/batch/job_file.c runtime/batch/describe.c runtime/batch/sweep.c'
	[ring]='runtime/engine/plan_check.c'
	[tiles]='controller/govern/tree.c controller/govern/log_proof.c controller/govern/bundle.c'
)
declare -A max_len=([gguf]=8192 [safetensors]=4096 [config]=2048 [tokenizer]=4096 [template]=2048 [policy]=4096
	[batch]=2048 [activations]=1024 [http]=1024
	[entry]=2048 [note]=1024 [store]=512 [tiles]=4096 [job]=4096 [ring]=128)

# A small quarantine: freed blocks come back while they are in the cache, and runs take less than half the time.
export ASAN_OPTIONS=quarantine_size_mb=8
for target in "${targets[@]}"; do
	corpus=$build/corpus/$target
	mkdir -p "$corpus" "$build/found"
	found=tests/fuzz/corpus/$target.found
	[ ! -e "$found" ] || scripts/measure/fuzz_corpus.py unpack "$found" "$corpus"
	# shellcheck disable=SC2086
	grep -ohE '"[][A-Za-z0-9_.<>|{}(),:#=+*/ -]{2,40}"' ${sources[$target]} | grep -v '\.h"$' |
		sort -u >"$build/$target.dict"
	"$build/tests/fuzz/fuzzer_$target" "$corpus" "tests/fuzz/corpus/$target" -dict="$build/$target.dict" -seed=1 \
		-max_total_time="$seconds" -max_len="${max_len[$target]}" -timeout=3600 -report_slow_units=3600 \
		-rss_limit_mb=1024 -malloc_limit_mb=256 \
		-artifact_prefix="$build/found/$target-" -print_final_stats=1 >"$build/$target.log" 2>&1 || {
		tail -n 40 "$build/$target.log"
		echo "fuzz: $target failed; the log is $build/$target.log"
		exit 1
	}
	reached=$(sed -n 's/^#.*\(cov: [0-9]*\).*\(corp: [^ ]*\).*/\1, \2/p' "$build/$target.log" | tail -n 1)
	echo "$target: $reached, $(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$target.log") runs"
done
