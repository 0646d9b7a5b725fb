#!/usr/bin/env bash
# What cffi reads is what the compiler sees in the public headers. The package itself: make python-test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python3 bindings/python/make_cdef.py --check "${CC:-cc}"

# A member, a type or an enumeration that the compiler sees otherwise is found.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/bindings/python" "$folder/base" "$folder/runtime"
for fault in 's/uint32_t max_batch;/\n#if 1\nuint32_t max_batch;\n#else\nuint32_t max_rows;\n#endif\n/' \
	's/float alpha;/TT_ALPHA alpha;/' 's/^#define TT_VERSION.*/&\n#define alpha beta/'; do
	cp bindings/python/make_cdef.py "$folder/bindings/python/"
	cp base/*.h "$folder/base/"
	sed "$fault" runtime/trimtab.h >"$folder/runtime/trimtab.h"
	! cmp -s runtime/trimtab.h "$folder/runtime/trimtab.h" || { echo "$fault changes nothing" && exit 1; }
	sed -i '1i #define TT_ALPHA double' "$folder/runtime/trimtab.h"
	if python3 "$folder/bindings/python/make_cdef.py" --check "${CC:-cc}" >"$folder/said" 2>&1; then
		echo "not found: $fault" && exit 1
	fi
done
echo "test_python: passed"
