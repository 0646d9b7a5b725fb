#!/bin/sh
# Holds kernels/cuda/nccl_abi.h to NCCL: its names, types and numbers to the nccl.h of a pinned version, by
# tests/gpu/nccl_abi.c, and the names to what libnccl.so.2 exports. NCCL is fetched from PyPI (297 MB) once, into
# .cache/. Neither CUDA nor a GPU is needed: what nccl.h takes of CUDA's headers is the type of a stream.
set -eu

fail() {
	echo "nccl_abi: $*" >&2
	exit 1
}

version=2.28.9
digest=485776daa8447da5da39681af455aa3b2c2586ddcf4af8772495e7c532c7e5ab

cd "$(dirname "$0")/../.."
cache=$PWD/.cache/nccl-$version
mkdir -p .cache
work=$(mktemp -d .cache/.nccl.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
if [ ! -f "$cache/nccl.h" ]; then
	# shellcheck source=scripts/setup/find_pip.sh
	. scripts/setup/find_pip.sh
	echo "nvidia-nccl-cu12==$version --hash=sha256:$digest" >"$work/requirements.txt"
	"$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
		--dest "$work" -r "$work/requirements.txt"
	mkdir "$work/nccl"
	"$python" - "$work" <<'END'
import pathlib, sys, zipfile
work = pathlib.Path(sys.argv[1])
wheel = zipfile.ZipFile(next(work.glob("*.whl")))
(work / "nccl/nccl.h").write_bytes(wheel.read("nvidia/nccl/include/nccl.h"))
(work / "libnccl.so.2").write_bytes(wheel.read("nvidia/nccl/lib/libnccl.so.2"))
END
	nm -D --defined-only "$work/libnccl.so.2" | sed -n 's/.* [TW] \(nccl[A-Za-z]*\)$/\1/p' >"$work/nccl/exported"
	mv -T "$work/nccl" "$cache" 2>/dev/null || [ -f "$cache/nccl.h" ]
fi

# Numbers of half a word and less are not in what is compared.
mkdir "$work/cuda"
for header in cuda_fp16.h cuda_bf16.h cuda_fp8.h; do : >"$work/cuda/$header"; done
"${CC:-cc}" -std=c11 -Wall -Werror -I "$cache" -I kernels/emu -I "$work/cuda" -I . -I base -o "$work/compare" \
	tests/gpu/nccl_abi.c
"$work/compare"

names=$(sed -n 's/^\tF(\(nccl[A-Za-z0-9]*\)).*/\1/p' kernels/cuda/nccl_abi.h)
n=0
for name in $names; do
	grep -qx "$name" "$cache/exported" || fail "libnccl.so.2 of NCCL $version exports no $name"
	n=$((n + 1))
done
[ "$n" -gt 0 ] || fail "no names were found in kernels/cuda/nccl_abi.h"
echo "all $n functions are exported by its libnccl.so.2"
