#!/usr/bin/env bash
# Uses a build's library as others would, with examples/minimal.c: installed into a scratch prefix, and from a project
# of its own that takes the tree in by add_subdirectory().
#   install_test.sh BUILD
set -euo pipefail
build=$(realpath "$1")
cd "$(dirname "$0")/../.."
tree=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
runs() { "$1" tests/golden/tiny-llama/tiny-llama.q8_0.gguf "ab" >/dev/null; }

prefix=$work/prefix
cmake --install "$build" --prefix "$prefix" >/dev/null
pc=$(find "$prefix" -name trimtab.pc)
sed -i "s|^prefix=.*|prefix=$prefix|" "$pc"
export PKG_CONFIG_PATH=${pc%/trimtab.pc}
# shellcheck disable=SC2046
cc -std=c11 -Wall -Wextra -Werror examples/minimal.c -o "$work/minimal" $(pkg-config --cflags --libs --static trimtab)
runs "$work/minimal"
echo "install-test: examples/minimal.c compiles against an installed prefix and runs"

mkdir "$work/user"
cat >"$work/user/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(user LANGUAGES C)
add_subdirectory($tree trimtab)
add_executable(minimal $tree/examples/minimal.c)
target_link_libraries(minimal PRIVATE trimtab)
END
# As BUILD was compiled, so that ccache knows the objects.
setting() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
launcher=$(setting TT_CCACHE)
case $launcher in /*) launcher="env;CCACHE_NOHASHDIR=1;$launcher" ;; *) launcher= ;; esac
cmake -S "$work/user" -B "$work/user/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER_LAUNCHER="$launcher" \
	-DTT_WERROR="$(setting TT_WERROR)" -DTT_CUDA=OFF >/dev/null
cmake --build "$work/user/build" -j "$(nproc)" >"$work/log" || { tail -n 30 "$work/log"; exit 1; }
runs "$work/user/build/minimal"
others=$(find "$work/user/build" -type f -perm -u+x ! -path '*/CMakeFiles/*' ! -name minimal)
[ -z "$others" ] || { echo "install-test: the other project got programs, too: $others"; exit 1; }
echo "install-test: a project that adds the tree as a subdirectory gets the library alone, and runs"
