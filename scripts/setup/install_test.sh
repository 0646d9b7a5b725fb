#!/usr/bin/env bash
# Installs a build into a scratch prefix and compiles examples/minimal.c against it, as a user of the library would.
set -euo pipefail
build=$1
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install "$build" --prefix "$prefix" >/dev/null
pc=$(find "$prefix" -name trimtab.pc)
sed -i "s|^prefix=.*|prefix=$prefix|" "$pc"
export PKG_CONFIG_PATH=${pc%/trimtab.pc}
# shellcheck disable=SC2046
cc -std=c11 -Wall -Wextra -Werror examples/minimal.c -o "$prefix/minimal" $(pkg-config --cflags --libs --static trimtab)
"$prefix/minimal" tests/golden/tiny-llama/tiny-llama.q8_0.gguf "ab" >/dev/null
echo "install-test: examples/minimal.c compiles against an installed prefix and runs"
