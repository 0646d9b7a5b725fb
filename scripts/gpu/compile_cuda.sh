#!/bin/sh
# Compiles one CUDA source: compile_cuda.sh OUT.o SOURCE COMPILER FLAG..., or to PTX where the output is OUT.ptx.
# Beside OUT.o it leaves OUT.o.d, the headers, and OUT.o.log: what ptxas -v says of each kernel, for check_sass.sh.
set -eu
object=$1 source=$2
shift 2
# From the root and by relative names, so that ccache finds the same compilation in another checkout.
cd "$(dirname "$0")/../.."
mkdir -p "$(dirname "$object")"
case $object in
*.ptx) phase=-ptx ;;
*) phase=-c ;;
esac
if ! "$@" -MD -MF "$object.d.tmp" $phase "$source" -o "$object" >"$object.log.tmp" 2>&1; then
	cat "$object.log.tmp" >&2
	rm -f "$object" "$object.d.tmp"
	exit 1
fi
mv "$object.log.tmp" "$object.log"
# CMake takes relative names to be the build folder's.
awk -v root="$PWD/" -v object="$object" '
	NR == 1 { sub(/^.*: */, ""); print object " : \\" }
	{ line = "" ; for (i = 1; i <= NF; i++) line = line " " ($i ~ /^(\/|\\$)/ ? $i : root $i); print line }' \
	"$object.d.tmp" >"$object.d"
rm "$object.d.tmp"
