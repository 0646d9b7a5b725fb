#!/bin/sh
# Prints a folder that holds cuobjdump and nvdisasm: the machine's own, or fetched from PyPI into .cache/. They take
# apart CUDA objects of any version up to their own, and need no GPU.
set -eu

version=13.4.92

say() { echo "fetch_cuda_tools: $*" >&2; }
fail() {
	say "$*"
	exit 1
}

cd "$(dirname "$0")/../.."
if command -v cuobjdump >/dev/null && command -v nvdisasm >/dev/null; then
	dirname "$(command -v cuobjdump)"
	exit 0
fi
tools=$PWD/.cache/cuda-tools-$version
if [ ! -x "$tools/nvidia/cu13/bin/nvdisasm" ]; then
	say "fetching nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm $version (about 7 MB)"
	mkdir -p .cache
	work=$(mktemp -d .cache/.fetch.XXXXXX)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	cat >"$work/requirements.txt" <<END
nvidia-cuda-cuobjdump==$version --hash=sha256:fb72ca80d0cdd8f5e8e232ce17d3c5aa2a37c3153bb8ef4e010010ed4fdef6c5
nvidia-cuda-nvdisasm==$version --hash=sha256:f35a5b6ddb64b6758c22c0b078c5b6ff6d54f7c240cd74bf131ab5bf13b6c3fe
END
	# shellcheck source=scripts/setup/find_pip.sh
	. scripts/setup/find_pip.sh
	"$python" -m pip install -q --disable-pip-version-check --root-user-action ignore --no-deps \
		--only-binary :all: --require-hashes \
		--target "$work/tools" -r "$work/requirements.txt" >&2 || fail "pip could not install them"
	mv -T "$work/tools" "$tools" 2>/dev/null || [ -d "$tools" ]
fi
echo "$tools/nvidia/cu13/bin"
