#!/usr/bin/env bash
# trimtab-model-step beside a report of gpu-check, and what it refuses. What it reckons is in test_step_cost.c.
set -euo pipefail
program=$(dirname "$1")/trimtab-model-step
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "test_model_step: $*"; cat "$work/out"; exit 1; }

case_of() { # group, name, unit, a second
	echo "{\"group\": \"$1\", \"name\": \"$2\", \"work\": [{\"unit\": \"$3\", \"per_second\": {\"median\": $4}}]}"
}
cat >"$work/report.json" <<END_OF_REPORT
{"kernels": {"cases": [$(case_of "llama-3.1-8b decode o_proj 64" copy calls 7),
	$(case_of "llama-3.1-8b decode o_proj 64" kernel calls 100000),
	$(case_of "llama-3.1-8b decode down_proj 64" steered calls 7),
	$(case_of "llama-3.1-8b decode down_proj 64" unsteered calls 20000),
	$(case_of "llama-3.1-8b prefill attention 2048" kernel calls 2500)]},
"decode": {"cases": [$(case_of "llama-3.1-8b decode batch 64" unsteered tokens 8000),
	$(case_of "llama-3.1-8b prefill 2048" unsteered tokens 20480)]},
"quants": {"cases": [$(case_of "llama-3.1-8b products Q4_K 1" BF16 calls 7),
	$(case_of "llama-3.1-8b products Q4_K 1" Q4_K calls 700)]}}
END_OF_REPORT

# 10 us for 33.6 MB, 50 us for 117 MB, of which a step has 32 each.
"$program" --model llama-3.1-8b --batch 64 --context 512 --measured "$work/report.json" >"$work/out"
grep -qE '^o_proj .* cluster 14x8 +152 +0\.58 +8\.7 +10\.0 +\+14%$' "$work/out" || fail "o_proj"
grep -qE '^down_proj .* 30\.6 +50\.0 +\+63%$' "$work/out" || fail "down_proj"
grep -qE '^gate_up .* 61\.2$' "$work/out" || fail "gate_up, which was not measured"
grep -qE '^measured: a step 8\.000 ms, \+55%$' "$work/out" || fail "a step"
"$program" --model llama-3.1-8b --weights q4_k --measured "$work/report.json" >"$work/out"
grep -qE '^measured: its products 1\.429 ms, \+18%$' "$work/out" || fail "quantised weights"
# 400 us and 100 ms for a prompt from its start; nothing was measured of later tokens, nor of a part of the prompt.
"$program" --model llama-3.1-8b --prompt 2048 --measured "$work/report.json" >"$work/out"
grep -qE '^attention .* 64 rows +132 +1\.03 +304\.5 +400\.0 +\+31%$' "$work/out" || fail "a prompt's attention"
grep -qE '^measured: a step 100\.000 ms, \+13%$' "$work/out" || fail "a prompt"
for other in "--prompt 2048 --context 4096" "--prompt 1024"; do
	# shellcheck disable=SC2086
	"$program" --model llama-3.1-8b $other --measured "$work/report.json" >"$work/out"
	! grep -qE '^measured|\+[0-9]+%$' "$work/out" || fail "$other"
done
# Nothing was measured of two ranks, nor of eight bits.
for other in "--tp 2" "--weights q8_0"; do
	# shellcheck disable=SC2086
	"$program" --model llama-3.1-8b $other --measured "$work/report.json" >"$work/out"
	! grep -q '^measured' "$work/out" || fail "$other"
done
"$program" --model llama-3.1-70b >"$work/out"
! tail -n +2 "$work/out" | grep -q measured || fail "no report"

refuses() { # status, message, arguments
	status=0
	"$program" "${@:3}" >/dev/null 2>"$work/out" || status=$?
	[ "$status" = "$1" ] && grep -q "$2" "$work/out" || fail "${*:3}: $status"
}
refuses 1 "rows of 576 are no whole blocks of Q4_K" --model smollm2-135m --weights q4_k
refuses 1 "a GPU does not keep weights as F16" --model llama-3.1-8b --weights f16
refuses 1 "$work/none" --model llama-3.1-8b --measured "$work/none"
refuses 2 "^Usage" --model llama-3.1-8b --weights q9
refuses 2 "^Usage" --model llama-3.1-8b --gpu v100
refuses 2 "^Usage" --model llama-3.1-8b --prompt 70000
refuses 2 "^Usage" --model llama-3.1-8b --prompt 1 --batch 70000
refuses 1 "a prompt of 64 tokens has no context of 63" --model llama-3.1-8b --prompt 64 --context 63
