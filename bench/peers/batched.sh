#!/usr/bin/env bash
# Decoding a batch: this program beside llama.cpp's llama-batched-bench, on the same file, threads and lengths, in turn, so
# that a slow moment of the machine meets both. batched.sh TRIMTAB-BATCHED LLAMA-BATCHED-BENCH MODEL [ROUNDS]
# ROWS, PROMPT, GENERATE and THREADS may be set. Default: 32 rows, 128 and 128 tokens, a thread a core, 5 rounds.
set -euo pipefail

ours=$1 theirs=$2 model=$3 rounds=${4:-5}
rows=${ROWS:-32} prompt=${PROMPT:-128} generate=${GENERATE:-128} threads=${THREADS:-$(nproc)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run_ours() { # run_ours NAME OPTION...
	local name=$1
	shift
	"$ours" --model "$model" --npp "$prompt" --ntg "$generate" --npl "$rows" --threads "$threads" "$@" >>"$work/$name"
}
run_theirs() {
	"$theirs" -m "$model" -c $((rows * (prompt + generate))) -npp "$prompt" -ntg "$generate" -npl "$rows" -t "$threads" \
		-tb "$threads" --output-format jsonl 2>"$work/log" | grep '^{' >>"$work/llama.cpp" ||
		{ tail -5 "$work/log" >&2; exit 1; }
}

echo "$rows rows, $prompt prompt and $generate generated tokens each, $threads threads; load at the start: $(cut -d' ' -f1-3 /proc/loadavg)"
for ((i = 0; i < rounds; i++)); do
	# Each comes first as often as the other.
	if ((i % 2)); then run_theirs; fi
	run_ours 'trimtab, kv f32'
	run_ours 'trimtab, kv f16' --kv-f16
	if ((i % 2 == 0)); then run_theirs; fi
done
echo "load at the end: $(cut -d' ' -f1-3 /proc/loadavg)"

python3 - "$work" <<'PY'
import json, pathlib, statistics, sys

def read(name):
    return [json.loads(line) for line in (pathlib.Path(sys.argv[1]) / name).read_text().splitlines()]

names = ["trimtab, kv f32", "trimtab, kv f16", "llama.cpp"]
runs = {name: read(name) for name in names}
for key, what in (("speed_tg", "decoding"), ("speed_pp", "prefill")):
    print(f"{what}, tokens/s")
    for name in names:
        values = [run[key] for run in runs[name]]
        pairs = [a / b[key] for a, b in zip(values, runs["llama.cpp"])]
        line = f"  {name:16} {statistics.median(values):9.1f}   " + " ".join(f"{v:.1f}" for v in values)
        if name != "llama.cpp":
            line += f"   {statistics.median(pairs):.2f} times llama.cpp ({min(pairs):.2f} to {max(pairs):.2f})"
        print(line)
PY
