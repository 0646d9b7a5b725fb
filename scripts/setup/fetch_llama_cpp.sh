#!/bin/sh
# Fetches llama.cpp's source, as the PyPI package llama-cpp-python carries it, into .cache/ and prints the folder of
# the unpacked tree. Nothing of it is built. `make conformance` reads its vocabularies and chat templates; `make
# bench-cpu` builds it.
set -eu

package=llama-cpp-python==0.3.36
name=llama_cpp_python-0.3.36
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e

say() { echo "fetch_llama_cpp: $*" >&2; }
fail() {
	say "$*"
	exit 1
}

cd "$(dirname "$0")/../.."
tree=$PWD/.cache/$name/vendor/llama.cpp
if [ -d "$tree" ]; then
	echo "$tree"
	exit 0
fi

mkdir -p .cache
# Left over by an interrupted run; older than two hours, so that a run in progress elsewhere keeps its folder.
find .cache -maxdepth 1 -name '.fetch.*' -mmin +120 -exec rm -rf {} +
# Inside .cache/, so that the last step is a rename and the tree is there whole or not at all.
work=$(mktemp -d .cache/.fetch.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# shellcheck source=scripts/setup/find_pip.sh
. scripts/setup/find_pip.sh

say "fetching $package (about 77 MB)"
# pip asks a source package for its metadata, which runs its code: only after the hash has been found right.
echo "$package --hash=sha256:$sha256" >"$work/requirements.txt"
"$python" -m pip download -q --disable-pip-version-check --no-deps --require-hashes --no-binary llama-cpp-python \
	--no-cache-dir -d "$work" -r "$work/requirements.txt" >&2 || fail "pip could not download $package"
[ "$(sha256sum <"$work/$name.tar.gz" | cut -d' ' -f1)" = "$sha256" ] ||
	fail "$name.tar.gz has another SHA-256 than $sha256; nothing was kept"
tar -xzf "$work/$name.tar.gz" -C "$work" --no-same-owner || fail "$name.tar.gz cannot be unpacked"
[ -d "$work/$name/vendor/llama.cpp" ] || fail "$name.tar.gz does not hold vendor/llama.cpp"
mv -T "$work/$name" ".cache/$name" 2>/dev/null || [ -d "$tree" ] || fail ".cache/$name could not be put in place"
echo "$tree"
