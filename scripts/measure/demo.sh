#!/usr/bin/env bash
# The demo of `make demo`: fit a policy on the project's own prompts, measure it on those held out, show the difference.
set -euo pipefail

usage() {
	echo "usage: $0 TRIMTAB MODEL [OUTPUT-FOLDER]" >&2
	exit 2
}
[ $# -ge 2 ] || usage
trimtab=$1 model=$2 out=${3:-demo-out}
data=$(dirname "$0")/../../data/prompts.jsonl
for file in "$trimtab" "$model" "$data"; do
	[ -e "$file" ] || { echo "demo: $file is missing" >&2; exit 1; }
done
mkdir -p "$out"
begun=$SECONDS

title() { printf '\n== %s\n\n' "$*"; }
# The first test prompt of a label.
prompt_of() {
	sed -n "/\"label\": \"$1\", \"split\": \"test\"/{
		s/.*\"prompt\": \"\(.*\)\", \"label\".*/\1/;s/\\\\\"/\"/g;p;q
	}" "$data"
}

title "1. Fit a policy that makes the model refuse harmful requests (train and val prompts)"
# Status 3: a policy beyond its bars, which the page shows all the same.
"$trimtab" fit "$model" --data "$data" -o "$out/refuse.safetensors" --name refuse --report "$out/fit.json" ||
	[ $? = 3 ]

title "2. Side by side: the model alone, and steered (prompts it was not fitted on)"
for label in harmful benign borderline; do
	prompt=$(prompt_of "$label")
	printf '%s: %s\n\n' "$label" "$prompt"
	"$trimtab" generate "$model" --policy "$out/refuse.safetensors" --compare --show-steering -n 48 -p "$prompt"
	echo
done

title "3. Measure it on the test prompts"
"$trimtab" eval "$model" --policy "$out/refuse.safetensors" --data "$data" --split test \
	--completions "$out/completions.jsonl" --html "$out/report.html"

title "Done in $((SECONDS - begun)) seconds"
echo "The report, with maps of what was steered:  $out/report.html"
echo "Every completion:                           $out/completions.jsonl"
echo "The policy, to use as you like:             $trimtab generate $model --policy $out/refuse.safetensors -p '...'"
