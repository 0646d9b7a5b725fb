#!/usr/bin/env bash
# gpu-check without a GPU: its bundle runs elsewhere and says that there is none; every part runs on the emulator, as
# far as it can, and its report reads; and it fails when a part does. Skipped in part without nvcc, since then there is
# nothing to bundle.
#   test_gpu_check.sh BUILD TT_CUDA
set -euo pipefail
trap 'echo "test_gpu_check: failed in line $LINENO"' ERR
build=$1
source=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
elsewhere() { (cd / && env -i PATH=/usr/bin:/bin "$@"); }
say() { echo "test_gpu_check: $*"; }

check=$source/scripts/gpu/gpu_check.py
if [ "$2" = ON ]; then
	"$source/scripts/gpu/bundle.sh" "$build" "$work/made/bundle"
	mv "$work/made/bundle" "$work/moved"
	size=$(du -sm "$work/moved" | cut -f1)
	[ "$size" -lt 64 ] || { say "the bundle has $size MiB"; exit 1; }
	for program in "$work"/moved/bin/*; do
		! elsewhere ldd "$program" | grep -E 'not found|libjansson.*=> /(usr/)?lib' ||
			{ say "$program: libraries"; exit 1; }
	done
	elsewhere "$work/moved/bin/trimtab" --version >/dev/null
	if ! nvidia-smi >/dev/null 2>&1; then
		[[ $(elsewhere "$work/moved/gpu-check") == "gpu-check: no CUDA device: every part is skipped "* ]]
		[ ! -e "$work/moved/results" ]
		[[ $(elsewhere "$work/moved/bin/gpu-suites" || [ $? = 77 ]) == "no CUDA device"* ]]
		[[ $(elsewhere "$work/moved/bin/primitives" /dev/null || [ $? = 77 ]) == "no CUDA device"* ]]
		elsewhere "$work/moved/bin/gpu-bench" --machine 2>"$work/message" || [ $? = 77 ]
		grep -q '^gpu-bench: there is no NVIDIA driver' "$work/message"
		# A driver that is older than the program: an error, and files that say so.
		cc -shared -fPIC -o "$work/libcuda.so.1" "$source/tests/gpu/old_driver.c"
		! elsewhere LD_LIBRARY_PATH="$work" "$work/moved/gpu-check" --results "$work/old" >"$work/output" ||
			exit 1
		grep -q '^fail    machine .* the driver is for CUDA 12020, this program for CUDA 1' "$work/output"
		grep -q 'cudaErrorInsufficientDriver' "$work"/old/*.json
		grep -q 'cudaErrorInsufficientDriver' "$work"/old/*.md
		grep -q 'cudaErrorInsufficientDriver' "$work"/old/*.log
	fi
	check=$work/moved/gpu-check
else
	say "built without CUDA kernels: nothing to bundle"
fi

# The build's folder by a relative name, which is not the bundle's; limits for the emulator; and tools that only run
# what they are given.
mkdir "$work/tools"
for tool in ncu compute-sanitizer; do
	printf '#!/bin/sh\nwhile [ ! -x "$1" ]; do shift; done\n"$@" && echo "= ERROR SUMMARY: 0 errors"\n' \
		>"$work/tools/$tool"
	chmod +x "$work/tools/$tool"
done
(cd "$build" && env -i PATH="$work/tools:/usr/bin:/bin" "$check" --rehearse . --results "$work/results" --seconds 3300)
python3 - "$work"/results/*.json "$work"/results/*.md "$work"/results/*.log <<'END'
import json, sys

report = json.load(open(sys.argv[1]))
page = open(sys.argv[2]).read()
parts = {part["name"]: part["outcome"] for part in report["parts"]}
assert report["schema"] == "trimtab-gpu-check/2" and report["rehearsed"]
ran = ["machine", "primitives", "probe", "smoke", "kernels", "decode", "quants", "ops", "models", "profile",
       "sanitizer"]
assert all(parts[name] == "pass" for name in ran), parts
assert all(outcome in ("pass", "skipped") for outcome in parts.values()), parts
answers = report["probe"]
assert set(answers) == {"dependents", "wgmma", "rounding", "reads", "gaps", "carveout", "layouts"}, answers
assert answers["dependents"]["wrong_eager"] == answers["dependents"]["wrong_in_graphs"] == 0
assert all(answers["wgmma"][k]["wgmma_128_differs"] == 0 for k in ("k_16", "k_64", "k_128"))
# On the emulator sums are added one by one: 1 + 2^-20, the same onto a 1, 1 + 15 * 2^-20, 1 - 1 + 2^-30.
assert answers["rounding"]["sums"][::16] == ["3f800008", "3f800008", "3f800078", "30800000"], answers["rounding"]
assert answers["layouts"]["packed_bulk"] is None, "the emulator has no times"
log = open(sys.argv[3]).read()
for item in ("tiny decode logits 1", "tiny prefill o_proj 64", "emu_attention.decode"):
    assert f"begin {item}" in log, item
kernels = {(case["group"].split(" ")[2], case["name"]): case for case in report["kernels"]["cases"]}
for op in ("embed", "qkv", "attention", "o_proj", "gate_up", "logits", "sample"):
    assert kernels[op, "kernel"]["seconds"]["median"] > 0, op
assert "relative error" in kernels["o_proj", "kernel"]["note"]
quants = {(case["group"], case["name"]): case for case in report["quants"]["cases"]}
for kind in ("Q8_0", "Q4_0", "Q5_0", "Q4_1", "Q5_1", "IQ4_NL"):  # the tiny model's rows have no blocks of 256
    for rows in (1, 8):
        one = quants[f"tiny products {kind} {rows}", kind]
        assert one["ratio"]["median"] > 0 and one["note"].startswith("relative error "), one
        assert quants[f"tiny products {kind} {rows}", "BF16"]["seconds"]["median"] > 0
arms = {case["name"] for case in report["decode"]["cases"]}
assert arms == {"unsteered", "steered at all layers"}, arms
for heading in ("# GPU check: emulator", "A rehearsal on the emulator", "## Questions", "## Kernels", "## Whole models",
                "| o_proj | kernel |", "## Quantised weights", "| tiny | 8 | Q5_0 | Q5_0 |"):
    assert heading in page, heading
END

# Several GPUs.
(cd "$build" && env -i PATH="$work/tools:/usr/bin:/bin" "$check" --rehearse . --ranks 2 --results "$work/ranks" \
	--seconds 3300)
python3 - "$work"/ranks/*.json <<'END'
import json, sys

report = json.load(open(sys.argv[1]))
parts = {part["name"]: part["outcome"] for part in report["parts"]}
assert parts == {"machine": "pass", "ranks_bits": "pass", "ranks_decode": "pass"}, report["parts"]
groups = {case["group"] for case in report["decode"]["cases"]}
assert {"tiny decode batch 1", "tiny, 2 ranks, decode batch 1"} <= groups, groups
END

# The result of a primitive is changed: the part must fail, and with it the whole.
if [ "$2" = ON ]; then
	printf '\1' | dd of="$work/moved/primitives.bin" bs=1 seek=100 conv=notrunc status=none
	! elsewhere "$check" --rehearse "$build" --results "$work/failed" --only machine,primitives \
		>"$work/output" || exit 1
	grep -q '^fail    primitives .*1 of the primitives failed' "$work/output"
	grep -q '| primitives | fail |' "$work"/failed/*.md
fi
say "passed"
