#!/usr/bin/env bash
# Makes a folder that runs on another machine: the programs with their small libraries, what gpu-check needs, and
# gpu-check.
#   bundle.sh BUILD OUT
# It holds no CUDA library (cudart is linked in, the driver is the machine's) and no C library: the machine's must be at
# least as new as this one's.
set -euo pipefail
build=$(realpath "$1")
out=$2
cd "$(dirname "$0")/../.."
case "$out" in /*) ;; *) out=$PWD/$out ;; esac
[ -x "$build/tests/gpu/gpu-suites" ] || {
	echo "bundle: $build has no GPU programs: it was built without nvcc or without tests" >&2
	exit 1
}

mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$(dirname "$out")/.bundle.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir "$work/bin" "$work/lib" "$work/tests"
for program in trimtab trimtab-bench tests/gpu/gpu-suites tests/gpu/gpu-bench tests/gpu/primitives \
	tests/gpu/probe; do
	objcopy --strip-debug "$build/$program" "$work/bin/${program##*/}"
done
mkdir "$work/libexec" # where it is looked for beside bin
objcopy --strip-debug "$build/libexec/trimtab-rank" "$work/libexec/trimtab-rank"
# All but the C library's own parts, which belong to the machine's loader.
ldd "$work"/bin/* | awk '$2 == "=>" { print $3 }' | sort -u |
	grep -vE '/(libc|libm|libpthread|libdl|librt|libresolv|ld-linux[^/]*)\.so' | xargs -I{} cp -L {} "$work/lib/"

"$build/tests/emu/primitives-emu" --write "$work/primitives.bin" >/dev/null
mkdir "$work/tests/golden"
cp -r tests/golden/tiny-* tests/golden/policy tests/golden/weights "$work/tests/golden/"
cp scripts/gpu/gpu_check.py "$work/gpu-check"
cp scripts/gpu/gpu_p*.py scripts/gpu/gpu_report.py bench/peers/torch_decode.py README.md LICENSE "$work/"
nvcc=$(sed -n 's/^TT_NVCC:[A-Z]*=//p' "$build/CMakeCache.txt")
cat >"$work/bundle.json" <<END
{"commit": "$(git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || echo unknown)",
 "nvcc": "$("$nvcc" --version | sed -n 's/.*release [^V]*V//p')",
 "glibc": "$(ldd --version | sed -n '1s/.* //p')"}
END
rm -rf "$out"
mv -T "$work" "$out"
echo "bundle: $out, $(du -sm "$out" | cut -f1) MiB"
