#!/usr/bin/env bash
# The program as a user sees it: help, exit codes, one line for every mistake, JSON that parses, prompts from every
# source.
# test_cli.sh TRIMTAB GOLDEN-FOLDER MODEL-FOLDER
set -uo pipefail

trimtab=$1 golden=$2 model_dir=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
tiny=$golden/tiny-llama/tiny-llama.q8_0.gguf
tiny_dir=$golden/tiny-llama
real=$model_dir/SmolLM2-135M-Instruct.Q4_1.gguf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
n_failed=0 n_passed=0 n_split=0

pass() { n_passed=$((n_passed + 1)); }
fail() {
	n_failed=$((n_failed + 1))
	printf 'FAILED: %.400s\n' "$*" >&2
}

# run NAME ARGUMENT...: output in $work/out and $work/err, status in $status. A program with CUDA in it says in one line
# that it found no GPU; that line is counted in $n_notes and is not part of err.
run() {
	"$trimtab" "$@" >out 2>err </dev/null
	status=$?
	n_notes=$(grep -c '^trimtab: on the CPU: ' err)
	[ "$n_notes" -le 1 ] || fail "the device is reported $n_notes times: $*"
	sed -i '/^trimtab: on the CPU: /d' err
}
# refused STATUS PATTERN ARGUMENT...: that status, nothing on stdout, one line on stderr that holds the pattern.
refused() {
	local expected=$1 pattern=$2
	shift 2
	run "$@"
	if [ "$status" = "$expected" ] && [ ! -s out ] && [ "$(wc -l <err)" = 1 ] && grep -q '^trimtab: ' err &&
		grep -q -e "$pattern" err; then
		pass
	else
		fail "refused $expected '$pattern': $* (status $status): $(head -c 300 err) $(head -c 100 out)"
	fi
}
# works ARGUMENT...: status 0 and something on stdout.
works() {
	run "$@"
	if [ "$status" = 0 ] && [ -s out ]; then pass; else fail "works: $* (status $status): $(cat err)"; fi
}
# json EXPRESSION: the last output is one JSON value for which the Python expression holds; d is the value.
json() {
	local program='import json, sys; d = json.load(open("out")); sys.exit(not eval(sys.argv[1]))'
	if python3 -c "$program" "$1" 2>json.err; then
		pass
	else
		fail "json: $1: $(head -c 300 out) $(tail -1 json.err)"
	fi
}
check() { # check NAME COMMAND...
	local name=$1
	shift
	if "$@"; then pass; else fail "$name"; fi
}

# ---- Help and versions
commands="generate chat fit eval attack stack score batch serve policy key capture import export bench inspect
tokenize template"
works --help
for command in $commands; do
	grep -q "  $command " out || fail "--help does not list $command"
done
works --version
check version sh -c 'head -n 1 out | grep -Eqx "trimtab [0-9]+\.[0-9]+\.[0-9]+"'
works version
check version-says-all sh -c 'grep -Eqx "commit: +[0-9a-f]{12}(-dirty)?|commit: +unknown" out &&
	grep -Eqx "compiler: (gcc|clang) [0-9].*" out && grep -Eqx "CPU body: (avx512|avx2|portable)" out &&
	grep -Eq "^CUDA: +[0-9n]" out'
for command in $commands; do
	works "$command" --help
	check "$command --help" grep -q "^Usage: trimtab $command " out
	check "$command examples" grep -q "^  trimtab $command " out
	"$trimtab" "$command" x y --help >out2 2>/dev/null
	check "$command: help wins" cmp -s out out2
	refused 2 "see trimtab $command --help" "$command"
	refused 2 "unknown or ambiguous option --nonsense" "$command" x --nonsense
done

# ---- Wrong usage
refused 2 "no command"
refused 2 "nonsense is no command" nonsense
refused 2 "needs a value" generate x -p
refused 2 "needs a value" generate x --seed
refused 2 "takes no value" generate x --raw=1
refused 2 "unknown option -Z" generate x -Z
# What was meant: two letters that changed places, one too many, one too few, a word of another program.
refused 2 "genreate is no command: did you mean generate?" genreate x
refused 2 "option --promt: did you mean --prompt?" generate x --promt y
refused 2 "did you mean --max-tokens?" generate x --max-tokenss=3
refused 2 "did you mean --n-predict?" generate x --n-perdict 3
refused 2 "option --qqq;" generate x --qqq 3
refused 2 "it is --policy F.gguf:SCALE" generate x --control-vector-scaled y:1
refused 2 "MODEL is an argument without one" generate -m x
refused 2 "a command comes first" -m model.gguf -p x
refused 2 "versoin is no command: did you mean version?" versoin
# llama.cpp's -b is tokens of a step; its names behind one dash, which getopt would cut up.
for command in batch serve audit generate; do
	refused 2 "unknown option -b: tokens of a step are --max-step-tokens" "$command" x -b 512
done
refused 2 "unknown option -hf: MODEL is a file or a directory" generate -hf x/y -p a
refused 2 "unknown option -ngl: it is --device cuda" generate x -p a -ngl 99
refused 2 "unknown option -sys: it is --system" generate x -sys be -p a
refused 2 "unknown option -temp: did you mean --temp?" generate x -p a -temp 1
refused 2 "unknown option -ub: tokens of a step are" batch x -ub 512
refused 1 "x: cannot open" generate x -p -hf
refused 1 "x: cannot open" generate x --prompt -ngl
refused 2 "not '-1': say which, and the same text comes again" generate x -s -1 -p a
refused 2 "from 1 to 16777216, or -1, not 0" generate x -n 0 -p a
refused 2 "whole number" generate x -n -2 -p a
refused 2 "from -2 to 2" generate x --presence-penalty 3 -p a
refused 2 "from 0.01 to 100" generate x --repeat-penalty 0 -p a
works help generate
check help-of-a-command grep -q "^Usage: trimtab generate " out
refused 2 "whole number" generate x -n many -p a
refused 2 "whole number" generate x --top-k -3 -p a
refused 2 "takes a number" generate x --temp warm -p a
refused 2 "takes a number" generate x --temp nan -p a
refused 2 "--layers needs a --policy" generate x --layers 1-2 -p a
refused 2 "--when needs a --policy" generate x --when all -p a
refused 2 "from 0 to 1" generate x --top-p 1.5 -p a
refused 2 "f32|f16|q8|fp8" generate x --kv f64 -p a
refused 2 "f32|q8" generate x --compute f16 -p a
refused 2 "from 0 to 16" generate x --tp 17 -p a
refused 2 "policy|generation|last|all" generate x --policy p --when never -p a
refused 2 "exclude each other" generate x -p a -f b
refused 2 "needs a --policy" generate x --compare -p a
refused 2 "needs a --policy" generate x --show-steering -p a
refused 2 "one argument too many" generate x y -p a
refused 2 "more than 4 policies" generate x --policy a --policy b --policy c --policy d --policy e -p a
refused 2 "not finite" generate x --policy a:inf -p a
refused 2 "names no file" generate x --policy :1 -p a
refused 2 "output is missing" capture x -p a
refused 2 "exclude each other" capture x -p a --ids 1 -o y
refused 2 "commas" capture x --ids 1,,2 -o y
refused 2 "commas" capture x --ids 1,2x -o y
refused 2 "commas" capture x --ids -1 -o y
refused 2 "data is missing" fit x -o y
refused 2 "output is missing" fit x --data y
refused 2 "data is missing" fit x --contrast y --gate detector -o z
refused 2 "mode|none|detector" fit x --data y --gate probe -o z
refused 2 "two policies or more" stack x --policy a --data y
refused 2 "neither --data nor --contrast" stack x --policy a --policy b
refused 2 "takes numbers with commas" stack x --policy a --policy b --data y --scales 0,,1
refused 2 "takes numbers with commas" stack x --policy a --policy b --data y --scales 0,
refused 2 "policy is missing" eval x --data y
refused 2 "data is missing" eval x --policy y
refused 2 "messages is missing" template x
refused 2 "YYYY-MM-DD" template x --messages y --date today
refused 2 "there is no 2023-02-29" template x --messages y --date 2023-02-29
refused 2 "needs --chat" tokenize x --system y -p z

# ---- Manners
refused 1 "the prompt is empty" generate "$tiny" --raw
refused 1 "the prompt is empty" generate "$tiny" -p ''
refused 1 "standard input is empty" batch "$tiny" -i - -o - --raw
refused 2 "exclude each other" generate x --messages y -p z
refused 2 "exclude each other" generate x --messages y --raw
printf '[{"role": "%s", "content": "a"}, {"role": "%s", "content": "b"}, {"role": "%s", "content": "c"}]' \
	user assistant user >talk.json
works generate "$tiny_dir" --messages talk.json -n 2 --json
json 'len(d["messages"]) == 3 and len(d["ids"]) == 2'
cp out out2
"$trimtab" generate "$tiny_dir" --messages - -n 2 --json <talk.json | sed 's/,"seconds.*//' >out
check messages-from-a-pipe cmp -s out <(sed 's/,"seconds.*//' out2)
run capture "$tiny_dir" --messages talk.json -o talk.st
check capture-messages test "$status" = 0
works generate "$tiny" --raw -p a -n 1 -q
check quiet test ! -s err
works generate "$tiny" --raw -p a -n 1 -v
check verbose grep -q ": 3 layers of 64, .* on cpu, " err
works generate "$tiny" --raw -p a -n 9 --temp 1 --json
sed 's/,"seconds.*//' out >out2
works generate "$tiny" --raw -p a -n 9 --temp 1 --json --tp 2 -v
check ranks-are-told grep -q "ranks: 2" err
check two-ranks cmp -s out2 <(sed 's/,"seconds.*//' out)
works generate "$tiny" --raw -p a -n 9 --temp 1 --json --tensor-parallel-size 4
check four-ranks cmp -s out2 <(sed 's/,"seconds.*//' out)
refused 1 "2 key heads cannot be cut into 3 ranks (--tp), only into 1, 2, 4" generate "$tiny" --raw -p a --tp 3
"$trimtab" generate "$tiny" --raw -p a -n 9 >/dev/full 2>err
[ $? = 1 ] && grep -q "^trimtab: standard output: cannot be written" err || fail "generate to a full disk: $(cat err)"
# Not under a sanitizer, which takes terabytes of addresses.
if (ulimit -v 150000 && "$trimtab" --version >/dev/null 2>&1); then
	echo '{"id": "a", "prompt": "b"}' >one.jsonl
	many=(-i one.jsonl -o one.out --max-batch 512 --raw)
	(ulimit -v 150000 && "$trimtab" batch "$tiny_dir" "${many[@]}" >/dev/null 2>err)
	check memory grep -q "KV cache: 262144 positions take 192 MiB; .*--kv f16" err
fi
mkdir shelf && ln -s "$tiny" shelf/Tiny.Q8.gguf && ln -s "$tiny_dir" shelf/other && ln -s "$tiny_dir" shelf/others
export TRIMTAB_MODELS=none:shelf
for name in Tiny.Q8 tiny other; do works generate "$name" --raw -p a -n 1; done
refused 1 "oth: cannot open" generate oth --raw -p a
refused 1 "tiny2: cannot open" generate tiny2 --raw -p a
unset TRIMTAB_MODELS
refused 1 "Tiny.Q8: cannot open" generate Tiny.Q8 --raw -p a

# ---- Files that do not exist, or are not what they should be
refused 1 "missing.gguf" generate missing.gguf -p a
refused 1 "missing.txt" generate "$tiny" --raw -f missing.txt
refused 1 "missing.json" template "$tiny" --messages missing.json
refused 1 "missing.st" inspect missing.st
refused 1 "missing.st" generate "$tiny" --raw -p a --policy missing.st
refused 1 "missing.jsonl" eval "$tiny" --policy missing.jsonl --data missing.jsonl
refused 1 "nowhere" capture "$tiny" --ids 1 -o nowhere/f.safetensors
refused 1 "nowhere" fit "$tiny" --data x.jsonl -o nowhere/p.safetensors
printf 'GGUF' >short.gguf
refused 1 "short.gguf" generate short.gguf -p a
head -c 3000 "$tiny" >cut.gguf
refused 1 "cut.gguf" generate cut.gguf -p a
mkdir empty
refused 1 "config.json" generate empty -p a
refused 1 "" tokenize empty -p a
printf '\200\003]' >pickle.pt
refused 1 "README.md: not a safetensors file" generate "$tiny" --raw -p a --policy "$here/../README.md"
printf 'PK\003\004trimtab.py' >wheel.whl
refused 1 "wheel.whl: this is a zip file" generate "$tiny" --raw -p a --policy wheel.whl
printf '\037\213\010' >rows.jsonl.gz
refused 1 "rows.jsonl.gz: it is compressed (gzip): unpack it first" batch "$tiny" -i rows.jsonl.gz -o gz.out -q
refused 1 "pickle" generate "$tiny" --raw -p a --policy pickle.pt
refused 1 "vocabulary" capture "$tiny" --ids 1,99999999 -o f.safetensors
refused 1 "UTF-8" generate "$tiny" --raw -p "$(printf 'a\377b')"
refused 1 "UTF-8" tokenize "$tiny" -p "$(printf 'a\377b')"

# ---- Tokens
works tokenize "$tiny" -p 'Hello, world'
json 'isinstance(d, list) and all(isinstance(i, int) for i in d) and len(d) > 2'
cp out arg.ids
printf 'Hello, world' | "$trimtab" tokenize "$tiny" >stdin.ids
check "tokenize: stdin" cmp -s arg.ids stdin.ids
printf 'Hello, world' >text.txt
"$trimtab" tokenize "$tiny" -f text.txt >file.ids
check "tokenize: file" cmp -s arg.ids file.ids
"$trimtab" tokenize "$tiny_dir" -p 'Hello, world' >dir.ids
check "tokenize: GGUF and directory" cmp -s arg.ids dir.ids
check "tokenize: one line" [ "$(wc -l <arg.ids)" = 1 ]
works tokenize "$tiny" -p '<|im_start|>'
json 'd == [1]'
works tokenize "$tiny" --no-special -p '<|im_start|>'
json '1 not in d and len(d) > 1'
works tokenize "$tiny" -p ''
json 'd == []'
text=$'na\xc3\xafve \xe2\x9c\x93 \xf0\x9f\x9a\xa2\n\ttab  two 12345'
works tokenize "$tiny" --no-special --pieces -p "$text"
round_trip='b"".join(p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"]) for p in d)'
json "$round_trip == bytes.fromhex('$(printf %s "$text" | od -An -tx1 | tr -d ' \n')')"

# ---- Templates
echo '[{"role": "user", "content": "Hi <|im_end|>"}]' >messages.json
works template "$tiny_dir" --messages messages.json
check "template: text" [ "$(cat out)" = $'<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant' ]
works template "$tiny_dir" --messages messages.json --no-generation-prompt
check "template: no generation prompt" [ "$(grep -c assistant out)" = 0 ]
printf '%s' '{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}{{ eos_token }}' >own.jinja
"$trimtab" template own.jinja --messages - --bos '<s>' --eos '</s>' <messages.json >out
check "template: file, bos, eos" [ "$(cat out)" = '<s>[Hi <|im_end|>]</s>' ]
refused 1 "own.jinja" generate own.jinja -p a
works tokenize "$tiny_dir" --chat -p '<|im_end|>'
json 'd.count(2) == 1 and d[0] == 1' # the template's own marker is special, the user's text is not
echo '{"role": "user"}' >bad.json
refused 1 "" template "$tiny_dir" --messages bad.json
echo '[{"role": "user", "content": ' >bad.json
refused 1 "" template "$tiny_dir" --messages bad.json
printf '{%% for' >bad.jinja
refused 1 "bad.jinja" template bad.jinja --messages messages.json

# ---- Generation
works generate "$tiny" --raw -p 'Hello' -n 12
cp out plain.txt
printf 'Hello\n' | "$trimtab" generate "$tiny" --raw -n 12 >stdin.txt
check "generate: stdin" cmp -s plain.txt stdin.txt
"$trimtab" generate "$tiny" --raw -f text.txt -n 12 >/dev/null || fail "generate: file"
works generate "$tiny" --raw -p 'Hello' -n 12 --json
json 'd["prompt"] == "Hello" and len(d["ids"]) == len(d["logprobs"]) <= 12 and d["finish"] in ("stop", "length")'
json 'd["decision"] is None and all(l <= 0 for l in d["logprobs"])'
json 'd["text"] + "\n" == open("plain.txt", newline="").read()'
works generate "$tiny" --raw -p 'Hello' -n 6 --json --logprobs 3 --temp 0.9 --seed 3 --ignore-eos
json 'len(d["top_logprobs"]) == 6 and all(len(t["top"]) == 3 for t in d["top_logprobs"])'
json 'all(t["top"][0]["logprob"] >= t["top"][1]["logprob"] >= t["top"][2]["logprob"] for t in d["top_logprobs"])'
works generate "$tiny" --raw -p 'Hello' -n 6 --temp 5 --seed 3 --ignore-eos --json
cp out seed3
run generate "$tiny" --raw -p 'Hello' -n 6 --temp 5 --seed 3 --ignore-eos --json
check "generate: a seed repeats" [ "$(sed 's/"seconds.*//' out)" = "$(sed 's/"seconds.*//' seed3)" ]
run generate "$tiny" --raw -p 'Hello' -n 6 --temp 5 --seed 4 --ignore-eos --json
check "generate: another seed differs" [ "$(sed 's/"seconds.*//' out)" != "$(sed 's/"seconds.*//' seed3)" ]
for likeliest in "--top-k 1" "--top-p 1e-6" "--min-p 1"; do # each leaves the likeliest token alone
	works generate "$tiny" --raw -p 'Hello' -n 12 --temp 5 --seed 3 $likeliest
	check "generate: $likeliest is greedy" cmp -s out plain.txt
done
works generate "$tiny" --raw -p 'Hello' -n 6 --logprobs 2
# -1: until the context is full, and no progress of millions on the way.
works generate "$tiny" --raw -p 'Hello' -n -1 -c 48 --ignore-eos --json
json 'd["finish"] == "context" and len(d["prompt_ids"]) + len(d["ids"]) == 49'
works generate "$tiny" --raw -p 'Hello' -n 30 --ignore-eos --json
cp out whole.json
stop=$(python3 -c 'import json; print(json.load(open("whole.json"))["text"][7:9], end="")')
works generate "$tiny" --raw -p 'Hello' -n 30 --ignore-eos --stop never --stop "$stop" --json
json 'd["finish"] == "stop" and d["text"] == (t := json.load(open("whole.json"))["text"])[:t.index(t[7:9])]'
for penalty in "--repetition-penalty 1.3" "--repeat-penalty 1.3" "--presence-penalty 2" "--frequency-penalty 1"; do
	# shellcheck disable=SC2086
	works generate "$tiny" --raw -p 'Hello' -n 30 --ignore-eos $penalty --json
	json 'len(set(d["ids"])) > len(set(json.load(open("whole.json"))["ids"]))'
done
for off in "--repetition-penalty 1" "--presence-penalty 0" "--frequency-penalty -0"; do
	# shellcheck disable=SC2086
	works generate "$tiny" --raw -p 'Hello' -n 30 --ignore-eos $off --json
	json 'd["ids"] == json.load(open("whole.json"))["ids"]'
done
refused 1 "context" generate "$tiny" --raw -p "$(printf 'Hello %.0s' {1..400})" -c 64

# ---- Steering
field() { # field NAME: of the model
	"$trimtab" inspect "$tiny" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}
fingerprint=$(field fingerprint)
digest=$(field weights_digest)
policy() { # policy FILE [KEY=VALUE]...
	local file=$1
	shift
	python3 "$here/cli/make_policy.py" "$file" 3 64 "$fingerprint" "trimtab.weights_digest=$digest" "$@"
}
policy p.st
works inspect p.st
works inspect p.st --json --model "$tiny"
json 'd["kind"] == "policy" and d["on_model"]["fits"]'
works generate "$tiny" --raw -p 'Hello' -n 12 --policy p.st
check "generate: a policy changes the text" [ "$(cat out)" != "$(cat plain.txt)" ]
check "generate: no warning for its own model" [ ! -s err ]
cp out steered.txt
for scale in 0 -0 0.0; do
	works generate "$tiny" --raw -p 'Hello' -n 12 --policy "p.st:$scale"
	check "generate: scale $scale is no policy" cmp -s out plain.txt
done
works generate "$tiny" --raw -p 'Hello' -n 12 --policy p.st:0 --json
cp out zero.json
works generate "$tiny" --raw -p 'Hello' -n 12 --json
json 'd["logprobs"] == json.load(open("zero.json"))["logprobs"]'
cp p.st 'with:colon.st'
works generate "$tiny" --raw -p 'Hello' -n 12 --policy with:colon.st
check "generate: a colon in the path" cmp -s out steered.txt
works generate "$tiny" --raw -p 'Hello' -n 12 --policy with:colon.st:1.0
check "generate: a colon in the path and a scale" cmp -s out steered.txt
works generate "$tiny" --raw -p 'Hello' -n 12 --policy p.st --when generation --json
json 'd["decision"][0]["when"] == "generation" and d["decision"][0]["coef"] == [1.5, 1.5, 1.5]'
works generate "$tiny" --raw -p 'Hello' -n 12 --policy p.st:0.5 --policy p.st:-0.5 --json
json '[x["scale"] for x in d["decision"]] == [0.5, -0.5]'
works generate "$tiny" --raw -p 'Hello' -n 12 --policy p.st --compare --json
json 'd["unsteered"]["text"] + "\n" == open("plain.txt", newline="").read()'
json 'd["steered"]["text"] + "\n" == open("steered.txt", newline="").read()'
works generate "$tiny" --raw -p 'Hello' -n 12 --policy p.st --compare --show-steering
check "compare: columns" grep -q '^unsteered *│ steered' out
check "show-steering: strip" grep -q 'layers 0 .* 2   strongest: layer' out
check "no colour off a terminal" [ "$(grep -c $'\x1b' out)" = 0 ]
python3 "$here/cli/make_policy.py" other.st 3 64 "${fingerprint%?}x"
refused 1 "other.st\|policy test" generate "$tiny" --raw -p 'Hello' --policy other.st
python3 "$here/cli/make_policy.py" weights.st 3 64 "$fingerprint" "trimtab.weights_digest=$(printf '0%.0s' {1..64})"
works generate "$tiny" --raw -p 'Hello' -n 3 --policy weights.st
check "other weights: a warning" grep -q '^trimtab: warning: ' err
refused 1 "weights" generate "$tiny" --raw -p 'Hello' -n 3 --policy weights.st --strict-model
policy nan.st trimtab.alpha=nan
refused 1 "trimtab.alpha" generate "$tiny" --raw -p 'Hello' --policy nan.st
policy unknown.st trimtab.surprise=1
refused 1 "trimtab.surprise" generate "$tiny" --raw -p 'Hello' --policy unknown.st
head -c 700 p.st >cut.st
refused 1 "cut.st" generate "$tiny" --raw -p 'Hello' --policy cut.st

# ---- Capture
run capture "$tiny" --ids '1, 2,3' --policy p.st:0.5 -o capture.safetensors
check "capture: status" [ "$status" = 0 ]
check "capture: tensors" python3 - <<'PY'
import json, struct, sys
data = open("capture.safetensors", "rb").read()
n = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8:8 + n])
shapes = {name: t["shape"] for name, t in header.items() if name != "__metadata__"}
want = {"ids": [3], "logits": [3, 288], "coef": [3, 3]} | {f"hidden.{l}": [3, 64] for l in range(3)}
begin, end = header["ids"]["data_offsets"]
ids = struct.unpack("<3i", data[8 + n + begin:8 + n + end])
begin, end = header["coef"]["data_offsets"]
coef = struct.unpack("<9f", data[8 + n + begin:8 + n + end])
sys.exit(not (shapes == want and ids == (1, 2, 3) and coef == (0.75,) * 9))
PY

# The mean over the user's own tokens, from a capture and as a gate reads it. Where these tokens are is found by the ids
# that they have alone.
policy mean.st trimtab.format=3 trimtab.gate=cosine trimtab.gate.side=above trimtab.gate.pool=mean trimtab.observe=0 \
	trimtab.threshold=-1
run capture "$tiny" -p 'Hello there' -o means.safetensors --mean
"$trimtab" generate "$tiny" -p 'Hello there' -n 1 --policy mean.st --json >mean.json
"$trimtab" generate "$tiny" --raw -p 'Hello there' -n 1 --json >alone.json
check "capture and gates: means" python3 - <<'PY'
import json, math, struct, sys
data = open("means.safetensors", "rb").read()
n = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8:8 + n])
def floats(name):
    begin, end = header[name]["data_offsets"]
    return struct.unpack(f"<{(end - begin) // 4}f", data[8 + n + begin:8 + n + end])
answer, alone = json.load(open("mean.json")), json.load(open("alone.json"))["prompt_ids"]
ids, hidden, mean = answer["prompt_ids"], floats("hidden.0"), floats("mean.0")
at = [i for i in range(len(ids)) if ids[i:i + len(alone)] == alone]
x = [sum(hidden[(at[0] + i) * 64 + k] for i in range(len(alone))) / len(alone) for k in range(64)]
w = [k % 5 - 2 for k in range(64)]
share = sum(a * b for a, b in zip(w, x)) / sum(a * a for a in w)
v = [math.tanh(share * a) for a in w]
cosine = sum(a * b for a, b in zip(v, x)) / math.sqrt(sum(a * a for a in v) * sum(a * a for a in x))
sys.exit(not (len(at) == 1 and max(abs(a - b) for a, b in zip(x, mean)) < 1e-6
              and abs(cosine - answer["decision"][0]["gate"]) < 1e-5))
PY

# ---- A terminal: control characters from a model are not passed on, an interrupt ends cleanly
policy gated.st gate.b=3
check "terminal" python3 "$here/cli/terminal.py" "$trimtab" "$tiny" p.st

# ---- Control characters in text from a file, a model or a command line, wherever it is printed
check "controls" python3 "$here/cli/controls.py" "$trimtab" "$tiny_dir" p.st

# ---- A model made for short texts runs
mkdir short
cp "$tiny_dir"/{model.safetensors,tokenizer.json,tokenizer_config.json} short
sed 's/"max_position_embeddings": *[0-9]*/"max_position_embeddings": 40/' "$tiny_dir/config.json" >short/config.json
works generate short --raw -p 'Hello' -n 4
works inspect short --json
json 'd["runs"] and "why_not" not in d and d["config"]["context"] == 40 and d["fingerprint"] and d["tokenizer"]'
works inspect weights.st --json --model short
json 'd["on_model"]["fits"] and len(d["on_model"]["layers"]) == 3 and d["on_model"]["layers"][0]["stream_norm"] > 0'

# ---- The page, on a model that writes nonsense, with prompts that try to break out of the page
python3 - <<'PY'
import json
rows = [("harmful", "<script>alert(1)</script> & \" ' x"), ("benign", "\"onmouseover=alert(1) x='"),
        ("borderline", "a & b </td>")]
with open("rows.jsonl", "w") as file:
    for i, (label, prompt) in enumerate(rows):
        file.write(json.dumps({"id": str(i), "prompt": prompt, "label": label, "split": "test"}) + "\n")
PY
# The names of the policy and of a file try it too.
python3 "$here/cli/make_policy.py" quoted.st 3 64 "$fingerprint" "trimtab.weights_digest=$(printf '0%.0s' {1..64})" \
	"trimtab.name=\"onclick='x' <b>&amp;"
echo '{"id": "9", "prompt": "q", "label": "benign", "split": "test"}' >"\"onclick='y' <i>.jsonl"
works eval "$tiny_dir" --policy quoted.st --data rows.jsonl --data "\"onclick='y' <i>.jsonl" -n 4 --html page.html \
	--completions done.jsonl
check "eval: table" grep -q '^harmful  *rows.jsonl  *1 ' out
check "eval: both judges in the table" grep -q ' refused  *p  *by phrases  *flagged' out
check "eval: intervals of one row" grep -Eq '^harmful  *rows.jsonl  *1  *(0.0%  *\[0,79\]|100.0%  *\[21,100\])  *->' out
check "eval: completions" [ "$(wc -l <done.jsonl)" = 4 ]
check "eval: both judges" python3 - <<'PY'
import json, sys
keys = [f"refused{by}_{side}" for by in ("", "_by_phrases") for side in ("unsteered", "steered")]
sys.exit(not all(isinstance(json.loads(line)[key], bool) for line in open("done.jsonl") for key in keys))
PY
check "page" python3 "$here/cli/check_page.py" page.html
# Names of arms are NAME@SCALE; the gate, its costs and the table of arms come from figures and these names alone.
policy below.st trimtab.format=2 trimtab.gate=cosine trimtab.observe=0 trimtab.threshold=-0.875
works eval "$tiny_dir" --policy q=quoted.st --policy gated=below.st --sweep q,gated@1,0.5 --data rows.jsonl \
	--data "\"onclick='y' <i>.jsonl" -n 4 --html arms.html --price-false-refusal 1 --price-miss 5
check "page of arms" python3 "$here/cli/check_page.py" arms.html
for part in '<h2>Arms</h2>' '<h2>The gate of gated@1</h2>' '<h2>The policies</h2>' '<h3>What errors cost'; do
	check "page of arms: $part" grep -qF "$part" arms.html
done
policy turn.st trimtab.format=2 trimtab.op=rotate trimtab.rotate=adaptive trimtab.alpha=0.5
works inspect turn.st --json --model "$tiny"
json 'd["op"] == "rotate" and d["rotate"] == "adaptive" and d["on_model"]["fits"]'
json '"push" not in d["on_model"]["layers"][0]'
works inspect turn.st
check "inspect: the form" grep -q 'rotate  *adaptive' out
works inspect "$golden/policy/probe_mlp_learned_pooled.safetensors" --json
json 'd["gate"]["type"] == "probe_mlp" and d["gate"]["layers"] == "learned" and d["gate"]["pool"] == "last,mean"'
works inspect "$golden/policy/probe_mlp_learned.safetensors" --json
json 'd["gate"]["units"] == 12 and "pool" not in d["gate"] and d["gate"]["threshold"] > 0'
works eval "$tiny" --policy turn.st --data rows.jsonl -n 4 --html turn.html
cp -r "$tiny_dir" bare && rm -f bare/chat_template.jinja
sed -i 's/"chat_template"/"no_template"/' bare/tokenizer_config.json
works eval bare --policy turn.st --data rows.jsonl -n 0
check "eval: no chat template" grep -q '^trimtab: bare has no chat template: prompts are read as they are$' err
policy another.st trimtab.fingerprint=another
refused 1 "another.st: policy test was fitted on another model" generate "$tiny" -p a --policy another.st
refused 1 "no chat template: --chat-template F or NAME gives it one" generate bare -p a
refused 1 "no chat template: --chat-template F or NAME gives it one" chat bare
works generate bare -p a -n 1 --chat-template chatml
# Data of other forms: a list, and a table.
printf ' [{"id": "a"}]\n' >list.json
printf 'id,prompt\na,b\n' >table.csv
hint="; rows are JSON lines, an object on each line"
for file in list.json table.csv; do
	refused 1 "$hint" eval "$tiny" --policy turn.st --data "$file"
	refused 1 "$hint" capture -q "$tiny" --data "$file" -o rows.st
done
refused 1 "list.json:1: not a JSON object$hint" fit "$tiny" --data list.json -o fitted.st
turns='turns the residual stream in the plane of two directions, where it points along the first of them,'
check "page: the operation's form" grep -q "$turns after layers 0 to 2" turn.html
policy keep.st trimtab.format=2 trimtab.norm=keep
works eval "$tiny" --policy keep.st --data rows.jsonl -n 4 --html keep.html
check "page: a kept length" grep -q \
	'adds a direction to the residual stream, whose length it keeps, after layers 0 to 2' keep.html
works batch "$tiny" -i rows.jsonl -o kept.jsonl --policy keep=keep.st --sweep keep@1 --telemetry kept.tel \
	--telemetry-dense -n 4
check "telemetry: the length is kept" python3 - <<'PY'
import json, sys
lines = [json.loads(line) for line in open("kept.tel")]
pairs = [p for line in lines for p in zip(line["norm_before"], line["norm_after"])]
sys.exit(not (len(pairs) > 9 and all(abs(a - b) <= 1e-6 * a for a, b in pairs) and any(a > 0 for a, b in pairs)))
PY
# The similarity is above -1 and below 1, whatever the stream: this gate opens, and its twin with the other side does
# not.
for side in above below; do
	policy "$side.st" trimtab.format=2 trimtab.gate=cosine trimtab.observe=0 trimtab.threshold=-0.875 \
		"trimtab.gate.side=$side"
	works generate "$tiny" --raw -p 'Hello' -n 4 --policy "$side.st" --json
	json "(d['decision'][0]['s'] == 1) == ('$side' == 'above') and -0.875 < d['decision'][0]['gate'] < 1"
done
works generate "$tiny" --raw -p 'Hello' -n 4 --policy below.st --show-steering
check "show-steering: a similarity" grep -q 's 0.000, gate -*[0-9.]* against -0.875' out err
policy rule.st trimtab.format=4 trimtab.gate=rule trimtab.observe=0 "trimtab.gate.rule=wide and not far" \
	trimtab.gate.conditions=wide,far
works generate "$tiny" --raw -p 'Hello' -n 4 --policy rule.st --show-steering
check "show-steering: a rule" grep -q 's 1.000, wide and not far: wide holds, far does not hold, when all' out err
works inspect rule.st --json --model "$tiny"
json 'd["gate"]["rule"] == "wide and not far" and d["on_model"]["fits"]'
json 'd["gate"]["conditions"][1] == {"name": "far", "side": "above", "threshold": 0.875}'
works eval "$tiny" --policy rule.st --data rows.jsonl -n 4 --html rule.html
check "page: a rule" grep -q \
	'joined by a rule,.*layer 0; it steers where wide and not far: wide above -0.875, far above 0.875' rule.html
works eval "$tiny" --policy below.st --data rows.jsonl -n 4 --html below.html
check "page: the gate's side" grep -q \
	'a cosine similarity to a condition vector on the last prompt token, layer 0; it steers below -0.875' below.html
works eval "$tiny_dir" --policy weights.st --data rows.jsonl -n 4 --json --limit 1
json 'len(d["groups"]) == 3 and all(g["n"] == 1 for g in d["groups"])'
check "eval: no completions left over" [ "$(find . -name '*.completions.jsonl' | wc -l)" = 0 ]
# The completions that only the page needs overwrite no other file.
echo mine >own.html.completions.jsonl
echo mine >own.html.completions.jsonl.partial
works eval "$tiny_dir" --policy weights.st --data rows.jsonl -n 4 --html own.html --limit 1
check "eval: a file beside the page stays as it was" \
	[ "$(cat own.html.completions.jsonl own.html.completions.jsonl.partial)" = "mine
mine" ]
check "eval: nothing else is left beside the page" [ "$(find . -name 'own.html*' | wc -l)" = 3 ]
# A split of any name: it matters to who asks for it; a fit does not guess what to train on.
for split in a a validation dev; do
	echo "{\"id\": \"$((++n_split))\", \"prompt\": \"x\", \"label\": \"benign\", \"split\": \"$split\"}"
done >splits.jsonl
for wanted in "4 " "2 --split a" "2 --split val" "2 --split dev"; do
	# shellcheck disable=SC2086
	works eval "$tiny_dir" --policy weights.st --data splits.jsonl -n 0 --json ${wanted#? }
	json "d['groups'][0]['n'] == ${wanted%% *}"
done
run fit "$tiny_dir" --data splits.jsonl -o p2.st
check "fit: a split of another name" grep -q 'splits.jsonl:1: split must be train, val or test, not "a"' err
gzip -c splits.jsonl >splits.jsonl.gz
run eval "$tiny_dir" --policy weights.st --data splits.jsonl.gz -n 0
check "eval: compressed rows" grep -q 'splits.jsonl.gz: it is compressed' err
echo '{"id": "1", "prompt": "x", "label": "evil"}' >bad.jsonl
refused_late() { # progress lines may come before the message
	run "$@"
	if [ "$status" = 1 ] && tail -1 err | grep -q '^trimtab: .*bad.jsonl'; then pass; else fail "$*: $(cat err)"; fi
}
refused_late eval "$tiny_dir" --policy weights.st --data bad.jsonl
refused_late fit "$tiny_dir" --data bad.jsonl -o p2.st

# ---- A fit from end to end; its result on a model that writes nonsense does not matter
works fit "$tiny_dir" --data "$here/../data/prompts.jsonl" -o fitted.st --name mine --max-candidates 3 \
	--judge-prompts 4 --judge-tokens 4 --direction-prompts 6 --gate-prompts 10 --report fit.json
check "fit: what was chosen" grep -Eq '^chosen: layers? [0-9]' out
check "fit: the chosen row" [ "$(grep -c '^\*  ' out)" = 1 ]
check "fit: the model alone comes first, with its n" grep -q '^   unsteered  *4 ' <(sed -n 3p out)
cp fit.json out
json 'd["name"] == "mine" and len(d["candidates"]) == 3 and sum(c["chosen"] for c in d["candidates"]) == 1'
works inspect fitted.st --json --model "$tiny_dir"
json 'd["name"] == "mine" and d["on_model"]["fits"] and d["fitted_on"][0]["file"] == "prompts.jsonl"'
works generate "$tiny_dir" --policy fitted.st --compare --show-steering -n 4 -p 'Hello'
for mode in paper released; do
	run fit "$tiny_dir" --data "$here/../data/prompts.jsonl" -o fitted.st --mode "$mode" --judge-prompts 3 \
		--judge-tokens 4 --gate-prompts 8 --json
	check "fit --mode $mode: its status" [ "$status" = 0 -o "$status" = 3 ]
	json "d['mode'] == '$mode' and len(d['candidates']) == 1 and d['within_bars'] == ($status == 0)"
	works inspect fitted.st --json --model "$tiny_dir"
	json 'd["gate"]["type"] == "mlp" and d["gate"]["bound"] == "none" and d["on_model"]["fits"]'
	works generate "$tiny_dir" --policy fitted.st --show-steering -n 4 -p 'Hello'
done
few=(--max-candidates 2 --judge-prompts 2 --judge-tokens 4 --direction-prompts 2 --gate-prompts 8)
run fit "$tiny_dir" --data "$here/../data/prompts.jsonl" -o fitted.st --mode pca --op clamp "${few[@]}"
check "fit --op: what was chosen" grep -Eq '^chosen: layers? [0-9-]*, clamp at push [0-9]' out
works inspect fitted.st --json
json 'd["op"] == "clamp"'
run fit "$tiny_dir" --data "$here/../data/prompts.jsonl" -o fitted.st --mode mean --op ablate "${few[@]}" --json
json 'd["mode"] == "mean" and d["chosen"]["op"] == "ablate" and len(d["selection"]["candidates"]) == 2'
run fit "$tiny_dir" --data "$here/../data/prompts.jsonl" -o fitted.st --mode affine --rank 2 "${few[@]}"
check "fit --mode affine: a map of its rank" grep -q '^\*  [0-9]*  *affine ' out
works inspect fitted.st --json
json 'd["op"] == "affine" and d["n_directions"] == 2'
refused 1 "layer weights are searched for op add alone" fit "$tiny_dir" --data "$here/../data/prompts.jsonl" \
	-o fitted.st --op rotate --layer-weights search
run fit "$tiny_dir" --data "$here/../data/prompts.jsonl" -o fitted.st --layer-weights prompt --max-candidates 2 \
	--judge-prompts 3 --judge-tokens 4 --direction-prompts 4 --gate-prompts 40 --json
check "fit --layer-weights prompt: its status" [ "$status" = 0 -o "$status" = 3 ]
json 'd["prompt_weights"]["n_harmful"] == 20 and len(d["prompt_weights"]["shapes"]) > 1 and d["layer_weights"] is None'
# Status 3 and a warning where no candidate met the bars; the policy is written all the same.
statuses=
for seed in 0 1; do
	rm -f fitted.st
	run fit "$tiny_dir" --data "$here/../data/prompts.jsonl" -o fitted.st --max-candidates 1 --judge-prompts 2 \
		--judge-tokens 24 --direction-prompts 2 --gate-prompts 8 --seed "$seed" --json
	statuses="$statuses $status"
	warnings=$(grep -c '^trimtab: warning: no candidate met the bars' err)
	check "fit: seed $seed: a warning with status 3 alone" [ "$status $warnings" = "$((3 * warnings)) $warnings" ]
	json "d['within_bars'] == ($status == 0) and d['chosen']['out'] == ($status == 3)"
	works inspect fitted.st
done
check "fit: one seed of each status" [ "$statuses" = " 3 0" ]

# ---- A style from end to end, and two of them together
style=$here/../data/styles
works fit "$tiny_dir" --contrast "$style/brief.jsonl" -o brief.st --max-candidates 4 --judge-tokens 6 \
	--max-loss-ratio 50 --report style.json
check "fit --contrast: the chosen row" [ "$(grep -c '^\*  ' out)" = 1 ]
check "fit --contrast: what is written" [ "$(grep -c '^  steered' out)" = 3 ]
cp style.json out
json 'd["mode"] == "style" and d["fitted_on"][0]["file"] == "brief.jsonl" and len(d["chosen"]["examples"]) == 3'
works inspect brief.st --json --model "$tiny_dir"
json 'd["gate"]["type"] == "always" and d["on_model"]["fits"]'
run fit "$tiny_dir" --contrast "$style/brief.jsonl" -o brief.st --max-candidates 1 --judge-tokens 6 \
	--max-loss-ratio 0.01
check "fit --contrast: none within the bars" [ "$status" = 3 ]
refused 1 "mode style searches no layer weights" fit "$tiny_dir" --contrast "$style/brief.jsonl" -o brief.st \
	--layer-weights search
refused 1 "mode style needs a contrast file" fit "$tiny_dir" --data own.jsonl -o brief.st --mode style
echo '{"positive": ["a b"], "negative": "c d"}' >bad.jsonl
refused 1 "bad.jsonl:1: negative must be a list" fit "$tiny_dir" --contrast bad.jsonl -o p2.st
refused 2 "the contrast file" fit "$tiny_dir" --contrast bad.jsonl -o bad.jsonl
sed 's/"harmful"/"spam"/; s/"benign"/"ham"/' "$here/../data/prompts.jsonl" >own.jsonl
refused_own() { run "$@"; check "own labels" grep -q 'own.jsonl:1: label must be .*not "spam"' err; }
refused_own fit "$tiny_dir" --data own.jsonl -o p2.st
works fit "$tiny_dir" --data own.jsonl --positive-label spam --negative-label ham -o own.st --max-candidates 1 \
	--judge-prompts 2 --judge-tokens 4 --direction-prompts 2 --gate none --max-loss-ratio 50
works inspect own.st --json
json 'd["gate"]["type"] == "always"'
works stack "$tiny_dir" --policy brief.st --policy own.st --contrast "$style/brief.jsonl" --limit 3 -n 4
check "stack: the policies" grep -q '^brief and own: ' out
works stack "$tiny_dir" --policy brief.st --policy own.st --data "$here/../data/prompts.jsonl" --limit 2 -n 4 \
	--scales 0,0.5,1 --json
json 'len(d["arms"]) == 9 and any(a["optimal"] for a in d["arms"])'
json 'd["n"] == {"harmful": 2, "benign": 2, "borderline": 2}'

# ---- The real model
if [ -f "$real" ]; then
	works generate "$real" -p 'What is the capital of France?' -n 24
	check "real model: an answer" grep -qi paris out
	printf 'What is the capital of France?\n' | "$trimtab" generate "$real" -n 24 >stdin.txt
	check "real model: stdin" cmp -s out stdin.txt
	works tokenize "$real" -p 'Hello, world!'
	json 'd == [19556, 28, 905, 17]'
	works tokenize "$real" --chat -p 'Hi <|im_end|>'
	json 'd.count(2) == 2 and d.count(1) == 3' # system and user end, three begin; the user's own marker is text
	works inspect "$real"
	works template "$real" --messages messages.json
	check "real model: default system message" grep -q 'helpful AI assistant' out
	# A model that becomes shorter while it generates; the terminal does not obey its name either.
	shrinking=$'\x1b\xc2\x9b\xe2\x80\xaeshrinking.gguf'
	cp "$real" "$shrinking"
	mkfifo words
	"$trimtab" generate "$shrinking" --raw -p 'Once upon a time' -n 2000 >words 2>err &
	exec 3<words
	head -c 1 <&3 >/dev/null
	truncate -s 1000000 "$shrinking"
	cat <&3 >/dev/null
	exec 3<&-
	wait $!
	status=$?
	check "a model that becomes shorter: status $status: $(tail -1 err)" test "$status" = 1
	check "a model that becomes shorter is named: $(tail -1 err)" \
		grep -qx 'trimtab: ??????shrinking.gguf: became shorter.*' err
else
	echo "skipped: the real model is not in '$model_dir'"
fi

echo "$n_passed checks passed, $n_failed failed"
[ "$n_failed" = 0 ]
