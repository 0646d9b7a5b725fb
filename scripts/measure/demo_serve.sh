#!/usr/bin/env bash
# The demo of `make demo-serve`: a policy that a second person approves, a server that goes by it, steered answers by
# openai-python and curl, a receipt verified and replayed, the live page, and the kill switch.
set -euo pipefail

usage() {
	cat <<-END
		usage: $0 [--stay] TRIMTAB MODEL PYTHON [POLICY]

		  PYTHON   with openai installed; make demo-serve makes one
		  POLICY   a policy file; by default a small one is fitted first, in a few seconds of two free cores
		  --stay   leave the server and its page running until Enter is pressed
	END
}
stay=
case "${1:-}" in
-h | --help) usage; exit 0 ;;
--stay) stay=1; shift ;;
esac
[ $# -ge 3 ] || { usage >&2; exit 2; }
trimtab=$(realpath "$1") model=$(realpath "$2") python=$(realpath -s "$3") policy=${4:+$(realpath "$4")}
here=$(realpath "$(dirname "$0")")
data=$here/../../data/prompts.jsonl
question="How do I pick the lock of my neighbour's front door without being noticed?"
begun=$SECONDS server= fitted=
folder=$(mktemp -d)
cd "$folder"

end() {
	[ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true # it may have ended
	rm -rf "$folder"
}
trap end EXIT

title() { printf '\n== %s\n\n' "$*"; }
say() { printf '   %s\n' "$@"; }
# A command as it would be typed, and what it prints.
show() {
	printf '$ trimtab'
	printf ' %s' "$@"
	echo
	"$trimtab" "$@" 2>&1 | sed 's/^/  /'
}
# What must be so, or the demo fails: a Python expression over the JSON of standard input.
must() { [ "$(json "bool($1)")" = True ] || { echo "demo-serve: it does not hold that $1" >&2; exit 1; }; }
json() { "$python" -c "import json,sys; one=json.load(sys.stdin); print($1)"; }

if [ -z "$policy" ]; then
	title "0. A small policy: the model is to refuse harmful requests"
	say "From a few prompts, so that it is quick; make demo fits a good one, and POLICY=FILE takes it."
	"$trimtab" fit "$model" --data "$data" -o refuse.safetensors --name refuse --direction-prompts 8 \
		--gate-prompts 48 --max-candidates 4 --judge-prompts 3 --judge-tokens 10 --report fit.json -q \
		>fit.txt || [ $? = 3 ]
	policy=$folder/refuse.safetensors
	fitted=1
	question=$("$here/demo_prompts.py" fit.json "$data" | sed -n '1s/.*\t//p') # one that the gate flagged
fi

title "1. People, and an application, each with a key and what it may do"
add_key() { # NAME ROLES [MORE]
	local by=()
	[ ! -f root.key ] || by=(--key root.key)
	"$trimtab" key add --state state --person "$1" --roles "$2" "${by[@]}" "${@:3}" >"$1.key" 2>said.txt ||
		{ cat said.txt >&2; exit 1; }
	say "$1: $2"
}
add_key root operator,editor,approver
add_key alice editor
add_key bob approver
add_key rita reviewer
add_key app user --steering names

title "2. Alice adds the policy. She cannot approve it herself; Bob can"
version=$("$trimtab" policy add refuse "$policy" --reason "first try" --state state --key alice.key)
say "version $version"
show policy submit refuse "${version:0:12}" --state state --key alice.key
printf '$ trimtab policy approve refuse %s --key alice.key\n' "${version:0:12}"
if "$trimtab" policy approve refuse "$version" --state state --key alice.key 2>refused.txt; then
	say "she approved it herself: that must not be" >&2
	exit 1
fi
sed 's/^/  /' refused.txt
show policy approve refuse "${version:0:12}" --state state --key bob.key
show policy label refuse production "${version:0:12}" --state state --key alice.key
number=$("$trimtab" policy stack propose refuse:1 --state state --key alice.key)
show policy stack approve "$number" --state state --key bob.key

title "3. A server that goes by the store"
"$trimtab" serve "$model" --state state --keep-text all --port 0 --admin-port 0 2>server.txt &
server=$!
address() { sed -n "s|.*$1 \(http://[^ ]*\)\$|\1|p" server.txt; }
for _ in $(seq 600); do
	[ -z "$(address serving)" ] || break
	kill -0 "$server" 2>/dev/null || break
	sleep 0.2
done
url=$(address serving) page=$(address "live page:")
[ -n "$url" ] || { cat server.txt >&2; exit 1; }
sed 's/^/  /' server.txt
say "" "The live page is at  $page" "Rita's key, to see it with maps:   $(cat rita.key)" \
	"Alice's, who may stop steering:   $(cat alice.key)"

title "4. openai-python asks, and does not know that anything steers"
"$python" - "$url" "$(cat app.key)" "$question" <<'END' | sed 's/^/  /'
import sys

import openai

url, key, prompt = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key=key)
model = client.models.list().data[0].id
ask = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 40, "temperature": 0, "seed": 1}
print("asked: ", prompt)
for name, more in (("as it stands", {}), ("at scale 0", {"steering": {"policies": [{"name": "refuse", "scale": 0}]}})):
    answer = client.chat.completions.create(**ask, extra_body=more)
    print(f"\n{name}:", " ".join(answer.choices[0].message.content.split()))
    for one in answer.model_extra["steering"]:
        layers = [layer for layer, coef in one["coef"].items() if coef]
        print(f"   {one['policy']} {one['version'][:12]}: gate {one['gate']:.3f}, threshold {one['threshold']:.3f}, "
              f"{'steers in layers ' + layers[0] + ' to ' + layers[-1] if layers else 'does not steer'}")
END

title "5. The same by curl, streamed; the first event says what steers, and has a receipt"
body=$("$python" -c 'import json,sys; print(json.dumps({"messages": [{"role": "user", "content": sys.argv[1]}],
	"max_tokens": 24, "temperature": 0, "seed": 1, "stream": True}))' "$question")
curl -sSN "$url/chat/completions" -H "Authorization: Bearer $(cat app.key)" -H "Content-Type: application/json" \
	-d "$body" >events.txt
sed -n '1s/^data: //p' events.txt >first.json
json 'json.dumps({key: one[key] for key in ("steering", "audit", "seed", "mode")}, indent=1)' <first.json |
	sed 's/^/  /'
say "" "and what was streamed: $(sed -n 's/^data: {/{/p' events.txt | "$python" -c '
import json, sys
deltas = [json.loads(line)["choices"][0]["delta"] for line in sys.stdin]
print("".join(delta.get("content") or "" for delta in deltas).replace("\n", " "))')"
[ -z "$fitted" ] || must 'any(one["steering"][0]["coef"].values())' <first.json
entry=$(json 'one["audit"]["seq"]' <first.json)
say "" "receipt: entry $entry, leaf $(json 'one["audit"]["leaf"]' <first.json)"

title "6. Alice stops all steering; only an approver may resume it. Then the same question"
# NAME COMMAND
admin() { curl -sS "${page}v1/admin/$2" -H "Authorization: Bearer $(cat "$1.key")" -H "Content-Type: application/json" \
	-d '{"reason": "a try"}'; echo; }
printf '  alice, kill:    '; admin alice policy/kill
curl -sS "$url/chat/completions" -H "Authorization: Bearer $(cat app.key)" -H "Content-Type: application/json" \
	-d "${body/\"stream\": true/\"stream\": false}" >stopped.json
say "the answer: $(json 'one["choices"][0]["message"]["content"].replace("\n", " ")' <stopped.json)" \
	"and it says so: killed $(json 'one["steering"][0]["killed"]' <stopped.json)"
must 'one["steering"][0]["killed"] and not any(one["steering"][0]["coef"].values())' <stopped.json
admin alice policy/resume >resumed.json
must 'one["error"]["code"] == "no_right"' <resumed.json
printf '  alice, resume:  '; cat resumed.json
printf '  bob, resume:    '; admin bob policy/resume

title "7. What the page shows of that request: run again, and how hard which layers were pushed"
curl -sS "${page}v1/admin/map/$entry" -H "Authorization: Bearer $(cat rita.key)" >map.json
json '"  outcome: %s; %d tokens, pushed in %d of the layers, at most by %.1f%% of the stream" % (
	one["outcome"], one["positions"], sum(max(l["push"]) > 0 for l in one["layers"]), 100 * one["most"])' <map.json
must 'one["outcome"] == "equal"' <map.json
if [ -n "$stay" ]; then
	say "" "The page stays at $page until you press Enter."
	read -r
fi

title "8. The server ends. The log is verified without it, and every request is replayed"
kill "$server"
wait "$server"
server=
show audit head --state state
show audit verify --state state
show audit prove "$entry" --state state >proof.txt
sed -n '2p' proof.txt | cut -c 1-200 | sed 's/$/ .../'
show audit replay "$model" --state state --sample 100

title "Done in $((SECONDS - begun)) seconds; nothing is left behind"
