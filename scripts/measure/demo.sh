#!/usr/bin/env bash
# The demo of `make demo`: fit a policy on the project's own prompts, show the difference, measure it on prompts that no
# fit has read, and fit and show a style.
set -euo pipefail

usage() {
	echo "usage: $0 TRIMTAB MODEL [OUTPUT-FOLDER]" >&2
	exit 2
}
[ $# -ge 2 ] || usage
trimtab=$1 model=$2 out=${3:-demo-out}
here=$(dirname "$0")
data=$here/../../data/prompts.jsonl style=$here/../../data/styles/joyful.jsonl
for file in "$trimtab" "$model" "$data" "$style"; do
	[ -e "$file" ] || { echo "demo: $file is missing" >&2; exit 1; }
done
mkdir -p "$out"
begun=$SECONDS

title() { printf '\n== %s\n\n' "$*"; }

title "1. Fit a policy that makes the model refuse harmful requests (train and val prompts)"
# Status 3: a policy beyond its bars, which the page shows all the same.
"$trimtab" fit "$model" --data "$data" -o "$out/refuse.safetensors" --name refuse --report "$out/fit.json" ||
	[ $? = 3 ]

title "2. Side by side: a harmful prompt, its harmless twin, and one that only looks harmful"
echo "Of the prompts that the fit has read, those that its gate judged rightly when it was trained without them."
"$here/demo_prompts.py" "$out/fit.json" "$data" > "$out/prompts.tsv"
while IFS=$'\t' read -r label prompt; do
	printf '\n%s: %s\n\n' "$label" "$prompt"
	"$trimtab" generate "$model" --policy "$out/refuse.safetensors" --compare --show-steering -n 48 -p "$prompt" \
		< /dev/null
done < "$out/prompts.tsv"

title "3. The same harmful prompt by strength: 0 is the model alone"
harmful=$(head -n 1 "$out/prompts.tsv" | cut -f 2)
for scale in 0 0.5 1 2; do
	text=$("$trimtab" generate "$model" --policy "$out/refuse.safetensors:$scale" -q -n 24 -p "$harmful" |
		tr -s '\n' ' ')
	printf '%4s  %s\n' "$scale" "$text"
done

title "4. Measure it on the test prompts, which it has not read"
"$trimtab" eval "$model" --policy "refuse=$out/refuse.safetensors" --sweep refuse@1,0.5,2 --data "$data" --split test \
	--completions "$out/completions.jsonl" --html "$out/report.html"

title "5. Another behaviour, from first words that show it: joyful answers"
"$trimtab" fit "$model" --contrast "$style" -o "$out/joyful.safetensors" --name joyful --max-candidates 9 \
	--judge-prompts 8 > "$out/joyful.txt" || [ $? = 3 ]
for prompt in "How do I boil an egg?" "What should I do on a rainy Sunday?"; do
	printf '%s\n\n' "$prompt"
	"$trimtab" generate "$model" --policy "$out/joyful.safetensors" --compare -n 48 -p "$prompt"
	echo
done

title "Done in $((SECONDS - begun)) seconds"
echo "The report, with maps of what was steered:  $out/report.html"
echo "Every completion:                           $out/completions.jsonl"
echo "The policy, to use as you like:             $trimtab generate $model --policy $out/refuse.safetensors -p '...'"
